from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2onnx.errors import InstallationError, WeightsError
from gpt2onnx.export.torch_file import TorchFile


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_any_float_in_both_of_pytorchs_formats(
    tmp_path: Path, dtype: torch.dtype, zipped: bool
) -> None:
    matrix = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    tensors = {"matrix": matrix, "transposed": matrix.T, "parameter": torch.nn.Parameter(matrix)}
    torch.save(tensors, tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    file = TorchFile(tmp_path / "x.bin")
    assert file.names() == tensors.keys()
    for name, tensor in tensors.items():
        assert file.shape(name) == tuple(tensor.shape)
        values = file.read(name)
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
        np.testing.assert_array_equal(values, tensor.detach().float().numpy())


def test_float32_is_mapped_not_copied(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(1000)}, tmp_path / "mapped.bin")
    file = TorchFile(tmp_path / "mapped.bin")
    assert np.shares_memory(file.read("x"), file.read("x"))
    assert "mapped.bin" in Path("/proc/self/maps").read_text()


def test_refuses_integers_when_read(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2, dtype=torch.int8)}, tmp_path / "x.bin")
    with pytest.raises(WeightsError, match=r"expected x in floats, found torch\.int8"):
        TorchFile(tmp_path / "x.bin").read("x")


def test_what_is_no_tensor_is_passed_over(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2), "epoch": 3}, tmp_path / "x.bin")
    assert TorchFile(tmp_path / "x.bin").names() == {"x"}
    torch.save([torch.ones(2)], tmp_path / "list.bin")
    assert not TorchFile(tmp_path / "list.bin").names()


@pytest.mark.parametrize("kept", [0, 3, 100, -30])
def test_truncated_file(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.bin"
    torch.save({"x": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=rf"found {path.stat().st_size} bytes") as raised:
        TorchFile(path)
    assert "\n" not in str(raised.value)


@dataclass
class Malicious:
    proof: Path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.proof,)


def test_runs_no_pickled_code(tmp_path: Path) -> None:
    content = {"x": torch.ones(2), "y": Malicious(tmp_path / "proof")}
    torch.save(content, tmp_path / "zipped.bin")
    torch.save(content, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(content["y"]))
    for path in list(tmp_path.iterdir()):
        with pytest.raises(WeightsError, match="can't be loaded"):
            TorchFile(path)
    assert not (tmp_path / "proof").exists()


def test_without_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "x.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InstallationError, match=r"pip install 'gpt2onnx\[verify\]'"):
        TorchFile(tmp_path / "x.bin")
