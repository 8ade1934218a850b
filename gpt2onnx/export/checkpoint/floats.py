"""Floats in files, mapped into memory, as float32; and whether they are finite.

Knows nothing of tensors' names, nor of where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import Advised, WeightsError
from gpt2onnx.files import path_errors

FLOATS: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
"""The types that can be read, by safetensors' names. numpy has no bfloat16: its bits are taken as
whole numbers."""


def mapped(path: Path, name: str, begin: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Numbers of the type `name`, a key of FLOATS, from byte `begin` on; not to be written to.

    Mapped for this array alone, so that its pages leave memory with it. Raises WeightsError.
    """
    try:
        with path_errors(path, WeightsError):
            return np.asarray(np.memmap(path, FLOATS[name], "r", begin, shape))
    except ValueError as error:  # it has become shorter since its header was read
        raise WeightsError(f"{path}: can't be mapped into memory: {error}", path=path) from error


def as_float32(stored: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Numbers of the type `name`, a key of FLOATS; the same array where they are float32 already.

    float64 beyond float32 becomes infinity, as in PyTorch.
    """
    if name == "BF16":
        return _from_bfloat16(stored)
    with np.errstate(over="ignore"):
        return stored.astype(np.float32, copy=False)


def from_float32(values: NDArray[np.float32], name: str) -> NDArray[Any]:
    """Numbers in the type `name`, a key of FLOATS, as it is stored; rounded to the nearest.

    Those beyond the type's range become infinity.
    """
    if name == "BF16":
        return _to_bfloat16(values)
    with np.errstate(over="ignore"):
        return values.astype(FLOATS[name], copy=False)


def _to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves, rounded, ties to even. NaN may become infinity."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded: NDArray[np.uint32] = bits + 0x7FFF + (bits >> 16 & 1)
    return (rounded >> 16).astype(np.uint16)


def _from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """A bfloat16 is the upper half of the float32 of the same value."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def is_finite(values: NDArray[Any]) -> bool:
    """Whether no value is infinity or NaN; both come through minimum and maximum."""
    return bool(np.isfinite([values.min(), values.max()]).all())


def require_finite(values: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """The same values. Raises WeightsError where rounding would have to do with infinity or NaN."""
    if is_finite(values):
        return values
    raise WeightsError(
        f"{what}: the weights are too large or too small to be rounded, numbers leave float32's"
        " range; ",
        *(Advised("precision", "fp32"), " takes any"),
    )
