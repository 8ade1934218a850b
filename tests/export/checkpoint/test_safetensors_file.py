from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.checkpoint.safetensors_file import SafetensorsFile
from tests.raising import raises


def write(path: Path, header: object, data: bytes = b"") -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)
    return path


def tensor_at(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_unaligned_data(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)
    path = write(
        tmp_path / "x.safetensors",
        {"x": tensor_at(1, 25, [2, 3]), "byte": tensor_at(0, 1, [1], "U8")},
        b"?" + values.tobytes(),
    )
    np.testing.assert_array_equal(SafetensorsFile(path).read("x"), values.reshape(2, 3))


def test_bytes_that_no_tensor_claims(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {"x": tensor_at(0, 4, [1])}, b"\0" * 5)
    size = path.stat().st_size
    with pytest.raises(WeightsError, match=f"expected {size - 1} bytes, found {size}"):
        SafetensorsFile(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        [],
        {"x": {"dtype": "F32"}},
        {"x": []},
        {"x": tensor_at(0, 4, [2])},
        {"x": tensor_at(4, 0, [1])},
        {"x": tensor_at(-4, 0, [1])},
        {"x": tensor_at(0, 4, [-1, -1])},
        {"x": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0.0, 4.0]}},
        {"x": {"dtype": "F32", "shape": None, "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        {"x": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}},
        {"x": {"dtype": "U8", "shape": [], "data_offsets": [0, 10**400]}},
        {"x": tensor_at(0, 0, [0, 2**63])},
        {"x": tensor_at(0, 4, [1] * 33)},
        b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, ' + b"9" * 5000 + b"]}}",
        b'{"x": {"dtype": "F32", "dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
    ],
)
def test_corrupt_header(tmp_path: Path, header: object) -> None:
    path = write(tmp_path / "x.safetensors", header, b"\0" * 4)
    with raises(WeightsError, path=path, found=None):
        SafetensorsFile(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        # Two at one place, one within another, one that begins before another ends.
        ({"a": (0, 8), "b": (0, 8)}, "overlapping tensors: expected b to begin at byte 8, where a"),
        ({"a": (0, 8), "b": (4, 8)}, "overlapping tensors: expected b to begin at byte 8"),
        ({"b": (0, 8), "a": (4, 12)}, "overlapping tensors: expected a to begin at byte 8"),
        ({"a": (0, 4), "b": (8, 12)}, "a hole: expected b to begin at byte 4"),
        ({"a": (4, 12)}, "a hole: expected a to begin at byte 0, where the header ends"),
    ],
)
def test_each_byte_is_one_tensors(
    tmp_path: Path, tensors: dict[str, tuple[int, int]], message: str
) -> None:
    header = {
        name: tensor_at(begin, end, [(end - begin) // 4]) for name, (begin, end) in tensors.items()
    }
    path = write(tmp_path / "x.safetensors", header, bytes(12))
    with pytest.raises(WeightsError, match=message):
        SafetensorsFile(path)


def test_empty_tensors_take_no_place(tmp_path: Path) -> None:
    header = {"a": tensor_at(0, 4, [1]), "b": tensor_at(4, 4, [0]), "c": tensor_at(4, 8, [1])}
    file = SafetensorsFile(write(tmp_path / "x.safetensors", header, bytes(8)))
    assert file.read("c") == 0


def test_a_name_that_comes_twice(tmp_path: Path) -> None:
    twice = b'{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    path = write(tmp_path / "x.safetensors", b'{"x": %b, "x": %b}' % (twice, twice), bytes(4))
    with pytest.raises(WeightsError, match=r"safetensors header, found a corrupt one \(x comes"):
        SafetensorsFile(path)


def test_a_header_beyond_the_bound_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write((10**9).to_bytes(8, "little"))
        file.truncate(2 * 10**9)  # a hole, on the disk
    with pytest.raises(WeightsError, match="at most 10,000,000 bytes, found 1,000,000,008"):
        SafetensorsFile(path)


def test_names_are_shown_as_text(tmp_path: Path) -> None:
    name = "\x1b[31m\n" + "x" * 5000
    header = {"a": tensor_at(0, 4, [1]), name: tensor_at(0, 4, [1])}
    with pytest.raises(WeightsError, match="overlapping") as raised:
        SafetensorsFile(write(tmp_path / "x.safetensors", header, bytes(4)))
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000
