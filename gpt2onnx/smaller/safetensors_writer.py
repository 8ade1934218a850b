"""Writes a .safetensors file, a tensor at a time, so that memory holds the largest one alone.

The format is told in `export/checkpoint/safetensors_file`. Its own package wants all tensors at
once, and has no bfloat16 for numpy. Knows nothing of GPT-2.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.checkpoint.floats import FLOATS, as_float32, from_float32, is_finite
from gpt2onnx.export.checkpoint.safetensors_file import LENGTH_BYTES
from gpt2onnx.export.writing.progress import Track, silent

# transformers refuses a file that doesn't say what its tensors are for.
METADATA = {"format": "pt"}
ALIGNMENT = 8


def write_safetensors(
    path: Path,
    dtype: str,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], NDArray[np.float32]],
    track: Track = silent,
) -> None:
    """Write the tensors of `shapes`, which `read` gives by name, in `dtype`, a key of FLOATS.

    Raises WeightsError for numbers beyond the type's range, OSError as the system does.
    """
    header = json.dumps(_header(dtype, shapes), separators=(",", ":")).encode()
    header += b" " * (-len(header) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(LENGTH_BYTES, "little") + header)
        for name in track(shapes, "writing weights"):
            file.write(_stored(name, read(name), shapes[name], dtype).data)


def _header(dtype: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    header: dict[str, Any] = {"__metadata__": METADATA}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * FLOATS[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    return header


def _stored(
    name: str, values: NDArray[np.float32], shape: tuple[int, ...], dtype: str
) -> NDArray[Any]:
    if values.shape != shape:
        raise ValueError(f"{name}: expected the shape {shape}, got {values.shape}")
    stored = np.ascontiguousarray(from_float32(values, dtype))
    if is_finite(values) and not is_finite(as_float32(stored, dtype)):
        raise WeightsError(
            f"{name}: its numbers leave the range of {dtype}, in which the checkpoint is stored;"
            " save the checkpoint in float32 first",
            name=name,
        )
    return stored
