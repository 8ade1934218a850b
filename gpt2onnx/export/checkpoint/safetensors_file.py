"""One .safetensors file, mapped into memory: a float32 tensor is a view of it, not a copy.

The format (https://huggingface.co/docs/safetensors) is eight bytes that tell the header's length, a
JSON header and the tensors' bytes. Its own package copies each tensor for numpy, and has no
bfloat16 there. Knows nothing of GPT-2.
"""

from __future__ import annotations

import json
import math
import operator
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.checkpoint.floats import FLOATS, as_float32, mapped
from gpt2onnx.files import open_regular

LENGTH_BYTES = 8
MAX_HEADER = 10_000_000  # a thousand tensors take 100 KB; parsed, it takes fifty times as much
MAX_DIMENSIONS = 32  # numpy's


class Entry(NamedTuple):
    """A tensor's type, shape and place, in bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """The tensors of one file; see `Tensors`."""

    as_saved = True

    def __init__(self, path: Path) -> None:
        """Read the header. Raises WeightsError where the file is truncated or corrupt."""
        self._path = path
        with open_regular(path, WeightsError) as file:
            size = os.fstat(file.fileno()).st_size
            start = LENGTH_BYTES + int.from_bytes(file.read(LENGTH_BYTES), "little")
            if size < start:
                raise WeightsError(
                    f"{path}: truncated, or not in the safetensors format: expected a header of"
                    f" {start} bytes, found {size} bytes in all; get the file again",
                    path=path,
                    found=size,
                    expected=start,
                )
            if start > MAX_HEADER:
                raise WeightsError(
                    f"{path}: expected a safetensors header of at most {MAX_HEADER:,} bytes, found"
                    f" {start:,}",
                    path=path,
                    found=start,
                    expected=MAX_HEADER,
                )
            self._entries = _read_entries(path, file.read(start - LENGTH_BYTES))
        expected = start + _check_places(path, self._entries)
        if size != expected:
            raise WeightsError(
                f"{path}: truncated or corrupt: expected {expected} bytes, found {size};"
                " get the file again",
                path=path,
                found=size,
                expected=expected,
            )
        self._start = start

    def names(self) -> frozenset[str]:
        return frozenset(self._entries)

    def file(self, name: str) -> Path:
        return self._path

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name].shape

    def dtype(self, name: str) -> str:
        return self._entries[name].dtype

    def read(self, name: str) -> NDArray[np.float32]:
        dtype, shape, begin, _ = self._entries[name]
        if dtype not in FLOATS:
            raise WeightsError(
                f"{self._path}: expected {name:.100} in {', '.join(FLOATS)}, found {dtype:.100}",
                path=self._path,
                name=name,
            )
        return as_float32(mapped(self._path, dtype, self._start + begin, shape), dtype)


def _read_entries(path: Path, header: bytes) -> dict[str, Entry]:
    try:
        tensors = json.loads(header, object_pairs_hook=_without_duplicates)
        tensors.pop("__metadata__", None)
        return {name: _entry(**tensor) for name, tensor in tensors.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: expected a safetensors header, found a corrupt one ({error!s:.200});"
            " get the file again",
            path=path,
        ) from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of which each name is given once."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"{names.most_common(1)[0][0]:.100} comes twice")
    return content


def _entry(dtype: str, shape: list[int], data_offsets: list[int]) -> Entry:
    begin, end = map(operator.index, data_offsets)
    sizes = tuple(map(operator.index, shape))
    if not isinstance(dtype, str):
        raise ValueError("a type that is no name")
    if len(sizes) > MAX_DIMENSIONS:
        raise ValueError(f"{len(sizes)} dimensions")
    if min((begin, end - begin, *sizes)) < 0 or max((end, *sizes)) >= 2**63:
        raise ValueError(f"shape {sizes} at bytes {begin} to {end}")
    if dtype in FLOATS and end - begin != math.prod(sizes) * FLOATS[dtype].itemsize:
        raise ValueError(f"{dtype} of shape {sizes} in {end - begin} bytes")
    return Entry(dtype, sizes, begin, end)


def _check_places(path: Path, entries: Mapping[str, Entry]) -> int:
    """See that each tensor begins where the one before it ends: the bytes of all of them.

    Raises WeightsError where two lie at one place, or bytes are no tensor's.
    """
    at, before = 0, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin != at:
            what = "overlapping tensors" if entry.begin < at else "a hole"
            raise WeightsError(
                f"{path}: corrupt, with {what}: expected {name:.100} to begin at byte {at}, where"
                f" {before:.100} ends, found byte {entry.begin}; get the file again",
                path=path,
                name=name,
            )
        at, before = entry.end, name
    return at
