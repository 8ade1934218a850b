"""Files of torch.save, and damage to them."""

from __future__ import annotations

import mmap
import pickle
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.checkpoint.torch_file import TorchFile
from tests.raising import raises


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


@pytest.mark.parametrize("zipped", [True, False])
def test_float32_is_a_read_only_view_of_the_file(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "mapped.bin"
    torch.save({"x": torch.ones(1000)}, path, _use_new_zipfile_serialization=zipped)
    values = TorchFile(path).read("x")
    owner = values
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert isinstance(owner.base, mmap.mmap)
    assert not values.flags.writeable
    assert "mapped.bin" in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("protocol", range(1, 6))  # in 0 PyTorch itself can't name storages
@pytest.mark.parametrize("zipped", [True, False])
def test_every_protocol_of_pickle(tmp_path: Path, protocol: int, zipped: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    torch.save(
        module.state_dict(),
        tmp_path / "x.bin",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    file = TorchFile(tmp_path / "x.bin")
    assert file.as_saved == (protocol == 2)
    assert file.names() == module.state_dict().keys()
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(file.read(name), tensor.numpy())


def test_views_of_one_storage(tmp_path: Path) -> None:
    whole = torch.arange(24, dtype=torch.float32)
    views = {
        "rows": whole.view(4, 6)[1:3],
        "columns": whole.view(4, 6)[:, 2:4],
        "every second": whole[1::2],
        "turned": whole.view(2, 3, 4).permute(2, 0, 1),
        "none": whole[:0],
        "one": whole[5],
    }
    torch.save(views, tmp_path / "x.bin")
    file = TorchFile(tmp_path / "x.bin")
    for name, view in views.items():
        assert file.read(name).shape == file.shape(name) == tuple(view.shape)
        np.testing.assert_array_equal(file.read(name), view.numpy())


def test_refuses_integers_when_read(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2, dtype=torch.int8)}, tmp_path / "x.bin")
    with raises(WeightsError, path=tmp_path / "x.bin", name="x"):
        TorchFile(tmp_path / "x.bin").read("x")


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_refuses_other_numbers_when_read(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"x": torch.ones(2).to(dtype), "y": torch.ones(3)}, tmp_path / "x.bin")
    file = TorchFile(tmp_path / "x.bin")
    assert file.shape("x") == (2,)
    np.testing.assert_array_equal(file.read("y"), np.ones(3))
    with pytest.raises(WeightsError, match=f"expected x in floats, found {dtype}"):
        file.read("x")


@pytest.mark.filterwarnings("ignore")
def test_other_kinds_of_tensors_are_refused_by_name(tmp_path: Path) -> None:
    quantized = torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)
    kinds = {
        "sparse": torch.eye(2).to_sparse(),
        "meta": torch.ones(2, 2, device="meta"),
        "quantized": quantized,
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    }
    torch.save(kinds | {"plain": torch.ones(2)}, tmp_path / "x.bin")
    file = TorchFile(tmp_path / "x.bin")
    assert file.read("plain").sum() == 2
    for name in kinds:
        for ask in (file.shape, file.read):
            with pytest.raises(WeightsError, match=f"expected {name} as a plain tensor, found a"):
                ask(name)


def test_one_number_is_no_matrix(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(1).expand(100_000, 80_000)}, tmp_path / "x.bin")
    with pytest.raises(WeightsError, match="with 8000000000 numbers, found 1 in its storage"):
        TorchFile(tmp_path / "x.bin").shape("x")


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "module"])
def test_weights_among_what_a_training_program_keeps(tmp_path: Path, wrapper: str) -> None:
    content = {
        wrapper: {"x": torch.ones(2)},
        "best_loss": torch.tensor(3.0),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2)}}},
        "epoch": 3,
        "history": [1.0, None, True, "text"],
    }
    torch.save(content, tmp_path / "x.bin")
    file = TorchFile(tmp_path / "x.bin")
    assert file.names() == {"x"}
    assert not file.as_saved


def test_weights_under_two_names(tmp_path: Path) -> None:
    torch.save({"model": {"x": torch.ones(2)}, "module": {"x": torch.ones(2)}}, tmp_path / "x.bin")
    with pytest.raises(WeightsError, match="found tensors under model and module; save the right"):
        TorchFile(tmp_path / "x.bin")


def test_tensors_beside_a_wrapper_are_the_weights(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2), "model": {"y": torch.ones(2)}}, tmp_path / "x.bin")
    assert TorchFile(tmp_path / "x.bin").names() == {"x"}


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


@pytest.mark.parametrize("protocol", range(1, 6))
def test_runs_no_pickled_code(tmp_path: Path, protocol: int) -> None:
    content = {"x": torch.ones(2), "y": Malicious(tmp_path / "proof")}
    torch.save(content, tmp_path / "zipped.bin", pickle_protocol=protocol)
    torch.save(
        content,
        tmp_path / "legacy.bin",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=False,
    )
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(content["y"], protocol))
    for path in list(tmp_path.iterdir()):
        with pytest.raises(WeightsError, match=r"can't be loaded.*(pathlib|getattr)") as raised:
            TorchFile(path)
        assert "weights_only" not in str(raised.value)
    assert not (tmp_path / "proof").exists()


# A pair of twice the same pair of twice the same: takes for ever to hash.
PAIRS = b")" + b"2\x86" * 100
ONES = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x04cbuiltins\neval\n\x8c\x011\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"\x80\x02ctorch\nload\n.",
        b"\x80\x02ctorch._utils\n_import_dotted_name\n.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor.__globals__\n.",
        ONES + b"}X\x01\x00\x00\x00aK\x01sb.",  # gives a function a state
        ONES + b")\x81.",  # takes a function for a class
        ONES + b")R.",  # a tensor of nothing
        b"\x80\x02}\x96\xff\xff\xff\xff\xff\x00\x00\x00.",  # a bytearray of a terabyte
        b"\x80\x02}r\xff\xff\xff\x7f0.",  # the memo's place of number 2**31 - 1
        b"\x80\x02\x82\x01.",  # an extension
        b"\x80\x02}" + PAIRS + b"K\x01s.",
        b"\x80\x02(" + PAIRS + b"K\x01d.",
        b"\x80\x02ccollections\nOrderedDict\n]]" + PAIRS + b"aK\x01aa\x85R.",
        b"\x80\x04\x8f(" + PAIRS + b"\x90.",
        b"\x80\x02" + PAIRS + b"Q.",
        b"(" + b"(" * 1000 + b"d" * 1000 + b".",
        b".",
        b"",
    ],
)
def test_no_pickle_can_do_harm(tmp_path: Path, pickled: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.writestr("x/data.pkl", pickled)
    with raises(WeightsError, path=tmp_path / "x.bin", name=None):
        TorchFile(tmp_path / "x.bin")


def rewritten(path: Path, change: Callable[[dict[str, bytes]], object], compression: int) -> None:
    """The same archive with other contents."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("change", "compression", "said"),
    [
        (lambda c: c.pop("x/data.pkl"), zipfile.ZIP_STORED, "data.pkl"),
        (lambda c: c.pop("x/data/0"), zipfile.ZIP_STORED, "data/0"),
        (lambda c: c.update({"x/data/0": b""}), zipfile.ZIP_STORED, "2 numbers in 0 bytes"),
        (lambda c: c.update({"x/byteorder": b"big"}), zipfile.ZIP_STORED, "big-endian"),
        (lambda c: c.update({"y/data/0": b""}), zipfile.ZIP_STORED, "data/0 comes twice"),
        (lambda c: None, zipfile.ZIP_DEFLATED, "is compressed"),
        (
            lambda c: c.update({"x/data.pkl": bytes(6_000_000)}),
            zipfile.ZIP_STORED,
            "a pickle of",
        ),
    ],
)
def test_a_changed_archive(
    tmp_path: Path, change: Callable[[dict[str, bytes]], object], compression: int, said: str
) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "x.bin")
    rewritten(tmp_path / "x.bin", change, compression)
    with pytest.raises(WeightsError, match=f"can't be loaded .*{said}"):
        TorchFile(tmp_path / "x.bin")


def test_a_whole_model_says_what_to_save(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "x.bin")
    with pytest.raises(WeightsError, match=r"Linear, which is never run; .*model\.state_dict\(\)"):
        TorchFile(tmp_path / "x.bin")


def test_needs_no_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "x.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    np.testing.assert_array_equal(TorchFile(tmp_path / "x.bin").read("x"), np.ones(2))


def test_a_directory_of_an_archive_has_a_bound(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.comment = b"x" * 60_000
        for number in range(40):
            member = zipfile.ZipInfo(f"x/{number}")
            member.comment = b"x" * 60_000
            archive.writestr(member, b"")
            member.extra = b"\0" * 65_000
    assert (tmp_path / "x.bin").stat().st_size > 5_000_000
    with pytest.raises(WeightsError, match="a directory of more than 5000000 bytes"):
        TorchFile(tmp_path / "x.bin")
