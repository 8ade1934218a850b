"""Rotated heads: transformers' logits stay what they were, and the cosines are the DCT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.calibration.text import CalibrationText
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from gpt2onnx.export.graph.kv_cache import largest_held
from gpt2onnx.export.quantization.rotation import Rotated, orthonormal_cosines
from gpt2onnx.export.quantization.smoothquant import smooth
from tests.checkpoints import make_checkpoint


@pytest.mark.parametrize("size", [1, 5, 13, 64])
def test_the_cosines_are_the_dcts(size: int) -> None:
    """By numpy's FFT of each vector followed by its mirror image."""
    mirrored = np.fft.fft(np.vstack([np.eye(size), np.eye(size)[::-1]]), axis=0)[:size]
    turned = np.exp(-1j * np.pi * np.arange(size) / (2 * size))[:, None] * mirrored
    expected = turned.real / np.sqrt(2 * size)
    expected[0] /= np.sqrt(2)
    found = orthonormal_cosines(size)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found @ found.T, np.eye(size), atol=1e-6)


@pytest.mark.parametrize(
    "config", [{}, {"n_embd": 39, "n_head": 3}, {"scale_attn_by_inverse_layer_idx": True}]
)
def test_the_model_stays_what_it_is(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = make_checkpoint(tmp_path, **config)
    checkpoint = open_checkpoint(folder)
    rotated = Rotated(smooth(checkpoint, CalibrationText(checkpoint, None).windows(64)))
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        expected = model(ids).logits
        for name, value in model.transformer.state_dict().items():
            value.copy_(torch.from_numpy(np.array(rotated.tensor(name))))
        found = model(ids).logits
    changed = rotated.tensor("h.0.attn.c_attn.weight") - checkpoint.tensor("h.0.attn.c_attn.weight")
    assert np.abs(changed).max() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_no_key_or_value_is_larger_than_it_says(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(make_checkpoint(tmp_path))
    windows = CalibrationText(checkpoint, None).windows(64)
    rotated = Rotated(smooth(checkpoint, windows))
    said, held = list(rotated.largest_held()), list(largest_held(rotated, windows))
    assert all(one >= other > one / 8 for one, other in zip(said, held, strict=True))


def test_weights_that_leave_single_precision_are_told(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = make_checkpoint(tmp_path) / "model.safetensors"
    checkpoint = open_checkpoint(tmp_path)
    smoothed = smooth(checkpoint, CalibrationText(checkpoint, None).windows(64))
    tensors = load_file(path)
    tensors["transformer.h.1.attn.c_attn.weight"][:, 64:] = 3e38
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"h\.1\.attn\.c_attn\.weight"):
        Rotated(smoothed).tensor("h.1.attn.c_attn.weight")
