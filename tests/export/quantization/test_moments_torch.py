"""Second moments of matrices' inputs beside those that transformers' model shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel

from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from gpt2onnx.export.quantization import moments
from gpt2onnx.export.quantization.moments import Moments
from tests.checkpoints import make_checkpoint

WINDOWS = np.random.default_rng(0).integers(0, 257, (3, 20))
# The graph's names, in the model's order, and those of the same modules in transformers.
MODULES = {
    f"h.{layer}.{name}": f"transformer.h.{layer}.{name}"
    for layer in range(2)
    for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
}


def read_by(checkpoint: Path, windows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """What each module is given, [tokens, in]."""
    model = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager")
    found = {}

    def watch(name: str) -> Any:
        def hook(module: Any, given: tuple[torch.Tensor], made: torch.Tensor) -> None:
            found[name] = given[0].flatten(0, -2).numpy()

        return hook

    for name in (*MODULES.values(), "lm_head"):
        model.get_submodule(name).register_forward_hook(watch(name))
    with torch.inference_mode():
        model(torch.from_numpy(windows))
    return found


def assert_moments_of(found: Any, x: NDArray[np.float32]) -> None:
    width = x.shape[1]
    assert found.shape == (1, -(-width // 32) * 32, -(-width // 32) * 32)
    expected = x.T.astype(np.float64) @ x
    np.testing.assert_allclose(found[0, :width, :width], expected, rtol=1e-3, atol=1e-3)
    assert not found[0, width:].any()
    assert not found[0, :, width:].any()


@pytest.mark.parametrize("tied", [True, False])
def test_each_is_of_what_its_matrix_reads(
    tmp_path: Path, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head's are asked for first, since its table is, and of the first windows alone."""
    monkeypatch.setattr(moments, "HEAD_TOKENS", 40)
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_embd=36, tie_word_embeddings=tied)
    told = Moments(open_checkpoint(checkpoint), WINDOWS, lambda x: x)
    table = told("wte")
    some, everything = read_by(checkpoint, WINDOWS[:2]), read_by(checkpoint, WINDOWS)
    if tied:
        assert_moments_of(table, some["lm_head"])
    else:
        assert table is None  # an embedding multiplies nothing
    for ours, theirs in MODULES.items():
        assert_moments_of(told(ours), everything[theirs])
    assert_moments_of(told("lm_head"), some["lm_head"])
