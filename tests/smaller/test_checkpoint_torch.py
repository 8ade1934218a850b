"""What is written, beside PyTorch: bfloat16, and whether transformers loads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2LMHeadModel

from gpt2onnx.export.checkpoint.floats import from_float32
from tests.checkpoints import make_checkpoint
from tests.smaller.test_checkpoint import copied


@pytest.mark.parametrize(("name", "dtype"), [("BF16", torch.bfloat16), ("F16", torch.float16)])
def test_rounding_is_that_of_pytorch(name: str, dtype: torch.dtype) -> None:
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    values[:4] = 0, -0.0, 1e-30, np.float32(1 + 2**-9)
    expected = torch.from_numpy(values).to(dtype).view(torch.int16).numpy()
    assert np.array_equal(from_float32(values, name).view(np.int16), expected)


def test_transformers_loads_a_copy_in_bfloat16(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source")
    weights = {
        name: tensor.bfloat16() for name, tensor in load_file(source / "model.safetensors").items()
    }
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    copied(source).write(tmp_path / "copy")
    after = load_file(tmp_path / "copy" / "model.safetensors")
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())
    model, info = GPT2LMHeadModel.from_pretrained(tmp_path / "copy", output_loading_info=True)
    assert not any(info.values())
    assert model.config.n_layer == 2
    assert AutoTokenizer.from_pretrained(tmp_path / "copy").encode("a")
