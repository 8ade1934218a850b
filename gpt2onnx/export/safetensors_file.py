"""One .safetensors file, mapped into memory: a float32 tensor is a view of it, not a copy.

The format (https://huggingface.co/docs/safetensors) is eight bytes that tell the header's length, a
JSON header and the tensors' bytes. Its own package copies each tensor for numpy, and has no
bfloat16 there. Knows nothing of GPT-2.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import WeightsError

FLOATS: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
"""The types that can be read. numpy has no bfloat16: its bits are taken as whole numbers."""

LENGTH_BYTES = 8


class Entry(NamedTuple):
    """A tensor's type, shape and place, in bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """The tensors of one file; see `Tensors`."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises WeightsError where the file is truncated or corrupt."""
        self._path = path
        size = path.stat().st_size
        with path.open("rb") as file:
            start = LENGTH_BYTES + int.from_bytes(file.read(LENGTH_BYTES), "little")
            if size < start:
                raise WeightsError(
                    f"{path}: truncated, or not in the safetensors format: expected a header of"
                    f" {start} bytes, found {size} bytes in all; get the file again"
                )
            self._entries = _read_entries(path, file.read(start - LENGTH_BYTES))
        expected = start + max((entry.end for entry in self._entries.values()), default=0)
        if size != expected:
            raise WeightsError(
                f"{path}: truncated or corrupt: expected {expected} bytes, found {size};"
                " get the file again"
            )
        self._start = start

    def names(self) -> frozenset[str]:
        return frozenset(self._entries)

    def file(self, name: str) -> Path:
        return self._path

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name].shape

    def read(self, name: str) -> NDArray[np.float32]:
        dtype, shape, begin, _ = self._entries[name]
        if dtype not in FLOATS:
            raise WeightsError(
                f"{self._path}: expected {name} in {', '.join(FLOATS)}, found {dtype}"
            )
        # Mapped for this tensor alone, so that its pages leave memory with it.
        mapped = np.memmap(self._path, FLOATS[dtype], "r", self._start + begin, shape)
        stored = np.asarray(mapped)
        return _from_bfloat16(stored) if dtype == "BF16" else _from_floats(stored)


def _read_entries(path: Path, header: bytes) -> dict[str, Entry]:
    try:
        tensors = json.loads(header)
        tensors.pop("__metadata__", None)
        return {name: _entry(**tensor) for name, tensor in tensors.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: expected a safetensors header, found a corrupt one ({error});"
            " get the file again"
        ) from error


def _entry(dtype: str, shape: list[int], data_offsets: list[int]) -> Entry:
    begin, end = map(operator.index, data_offsets)
    sizes = tuple(map(operator.index, shape))
    if min(begin, end - begin, *sizes) < 0:
        raise ValueError(f"shape {shape} at bytes {begin} to {end}")
    if dtype in FLOATS and end - begin != math.prod(sizes) * FLOATS[dtype].itemsize:
        raise ValueError(f"{dtype} of shape {shape} in {end - begin} bytes")
    return Entry(dtype, sizes, begin, end)


def _from_floats(stored: NDArray[Any]) -> NDArray[np.float32]:
    """The same array where it is float32 already."""
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinity, as in PyTorch
        return stored.astype(np.float32, copy=False)


def _from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """A bfloat16 is the upper half of the float32 of the same value."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)
