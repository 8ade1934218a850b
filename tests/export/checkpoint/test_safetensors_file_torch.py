"""Files of safetensors' own writer, and damage to them."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.checkpoint.safetensors_file import SafetensorsFile
from tests.raising import raises


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_reads_what_the_formats_own_package_wrote(tmp_path: Path, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "matrix": torch.randn(5, 7, generator=generator).to(dtype),
        "extremes": torch.tensor([0.0, -0.0, 1e-40, 65504, torch.inf, torch.nan]).to(dtype),
        "scalar": torch.tensor(2.5).to(dtype),
        "empty": torch.zeros(0, 3).to(dtype),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    file = SafetensorsFile(tmp_path / "model.safetensors")
    assert file.names() == tensors.keys()
    for name, tensor in tensors.items():
        values = file.read(name)
        assert values.dtype == np.float32
        assert file.shape(name) == values.shape == tuple(tensor.shape)
        np.testing.assert_array_equal(values, tensor.float().numpy())


def test_float32_is_a_read_only_view_of_the_file(tmp_path: Path) -> None:
    save_file({"matrix": torch.ones(64, 64)}, tmp_path / "model.safetensors")
    values = SafetensorsFile(tmp_path / "model.safetensors").read("matrix")
    owner = values
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert isinstance(owner.base, mmap.mmap)
    assert not values.flags.writeable


def test_float64_beyond_float32_becomes_infinity_without_a_warning(tmp_path: Path) -> None:
    save_file({"x": torch.tensor([1e300], dtype=torch.float64)}, tmp_path / "x.safetensors")
    assert SafetensorsFile(tmp_path / "x.safetensors").read("x") == np.inf


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn])
def test_refuses_other_numbers_when_read(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"x": torch.ones(2, 2).to(dtype), "y": torch.ones(3)}, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.shape("x") == (2, 2)
    np.testing.assert_array_equal(file.read("y"), np.ones(3))
    with pytest.raises(WeightsError, match="expected x in F64, F32, F16, BF16, found"):
        file.read("x")


@pytest.mark.parametrize("kept", [0, 7, 8, 20, -1])
def test_truncated_file_is_told_by_its_bytes(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.ones(10)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with raises(WeightsError, path=path, found=path.stat().st_size):
        SafetensorsFile(path)


def test_a_file_that_has_become_shorter(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"x": torch.ones(1000)}, path)
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WeightsError, match="can't be mapped into memory"):
        file.read("x")
    path.unlink()
    with raises(WeightsError, path=path):
        file.read("x")
