"""What a model writes against transformers: each token by the reference's distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.calibration.own_text import TOKENS, write_texts
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from tests.checkpoints import make_checkpoint
from tests.export.logits import load_reference

CONFIGS: list[dict[str, Any]] = [
    {},
    {"n_embd": 36, "n_head": 3, "n_inner": 50, "tie_word_embeddings": False},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True, "n_positions": 200},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_tokens_are_drawn_from_what_transformers_says(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    """By the same numbers: the first whose cumulative probability reaches the token's."""
    folder = make_checkpoint(tmp_path, **config)
    ids = write_texts(open_checkpoint(folder), 300)
    length = min(TOKENS, config.get("n_positions", 64))
    assert ids.shape == (-(-300 // length), length)
    random = np.random.default_rng(0)
    np.testing.assert_array_equal(ids[:, 0], random.integers(257, size=len(ids)))
    numbers = np.concatenate([random.random((len(ids), 1)) for _ in range(length - 1)], axis=1)
    with torch.no_grad():
        logits = load_reference(folder)(torch.from_numpy(ids)).logits
    sums = torch.softmax(logits.double(), -1).cumsum(-1)[:, :-1].numpy()
    drawn = np.take_along_axis(sums, ids[:, 1:, None], -1)[..., 0]
    before = np.where(
        ids[:, 1:] > 0, np.take_along_axis(sums, np.maximum(ids[:, 1:, None] - 1, 0), -1)[..., 0], 0
    )
    assert (numbers < drawn + 1e-5).all()
    assert (numbers > before - 1e-5).all()


def test_a_model_of_one_position(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, n_positions=1)
    assert write_texts(open_checkpoint(folder), 5).shape == (5, 1)


def test_numbers_that_leave_the_range(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, activation_function="linear") / "model.safetensors"
    tensors = load_file(path)
    tensors["transformer.h.1.mlp.c_proj.weight"] *= np.float32(1e38)
    tensors["transformer.h.1.mlp.c_fc.weight"] *= np.float32(1e10)
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(WeightsError, match="logits, writing a text"):
        write_texts(open_checkpoint(tmp_path), 5)
