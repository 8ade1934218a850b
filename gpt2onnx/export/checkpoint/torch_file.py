"""A file of torch.save, such as pytorch_model.bin, mapped into memory. Needs no PyTorch.

Knows nothing of GPT-2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.checkpoint.floats import FLOATS, as_float32, mapped
from gpt2onnx.export.checkpoint.torch_archive import read_content
from gpt2onnx.export.checkpoint.torch_pickle import (
    ITEM_SIZES,
    OtherTensor,
    StoredTensor,
)

PROTOCOL = 2  # torch.save's, unless it is told another
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""The names under which a training program keeps the weights, among other things."""

NAMES: Mapping[str, str] = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
}
"""The types that can be read, and their names in FLOATS."""

Tensor = StoredTensor | OtherTensor


class TorchFile:
    """The tensors of one file; see `Tensors`."""

    def __init__(self, path: Path) -> None:
        """Read what the pickle tells of tensors. Raises WeightsError."""
        self._path = path
        content = read_content(path)
        wrapper, self._tensors = _weights(path, content.pickled)
        self._places = content.places
        self.as_saved = content.protocol == PROTOCOL and not wrapper

    def names(self) -> frozenset[str]:
        return frozenset(self._tensors)

    def file(self, name: str) -> Path:
        return self._path

    def shape(self, name: str) -> tuple[int, ...]:
        return self._plain(name).shape

    def dtype(self, name: str) -> str:
        dtype = self._plain(name).dtype
        return NAMES.get(dtype, dtype)

    def read(self, name: str) -> NDArray[np.float32]:
        tensor = self._plain(name)
        if tensor.dtype not in NAMES:
            raise WeightsError(
                f"{self._path}: expected {name:.100} in floats, found torch.{tensor.dtype}",
                path=self._path,
                name=name,
            )
        dtype = FLOATS[NAMES[tensor.dtype]]
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, np.float32)
        begin = self._places[tensor.storage.key] + tensor.offset * dtype.itemsize
        numbers = mapped(self._path, NAMES[tensor.dtype], begin, (_extent(tensor),))
        strides = [stride * dtype.itemsize for stride in tensor.stride]
        stored = np.ndarray(tensor.shape, dtype, numbers, strides=strides)
        return np.asarray(as_float32(stored, NAMES[tensor.dtype]), order="C")

    def _plain(self, name: str) -> StoredTensor:
        """A tensor that is numbers in rows, as many as it says. Raises WeightsError."""
        tensor = self._tensors[name]
        if isinstance(tensor, OtherTensor):
            raise WeightsError(
                f"{self._path}: expected {name:.100} as a plain tensor, found a {tensor.kind} one;"
                " save it as numbers, by to_dense() or dequantize()",
                path=self._path,
                name=name,
            )
        bytes_there = tensor.storage.numbers * ITEM_SIZES[tensor.storage.dtype]
        there = bytes_there // ITEM_SIZES.get(tensor.dtype, 1)
        elements = math.prod(tensor.shape)
        if max(elements, elements and tensor.offset + _extent(tensor)) > there:
            raise WeightsError(
                f"{self._path}: expected {name:.100} of shape {list(tensor.shape)} with {elements}"
                f" numbers, found {there} in its storage; save it by contiguous()",
                path=self._path,
                name=name,
            )
        return tensor


def _extent(tensor: StoredTensor) -> int:
    """How many numbers there are from a tensor's first to its last."""
    return 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride, strict=True))


def _weights(path: Path, pickled: object) -> tuple[str, dict[str, Tensor]]:
    """The tensors by name, and under which name a training program kept them, or ""."""
    content = pickled if isinstance(pickled, dict) else {}
    own = _tensors(content)
    wrapped = {key: _tensors(content[key]) for key in WRAPPERS if key in content}
    wrapped = {key: tensors for key, tensors in wrapped.items() if tensors}
    # A single number, such as a loss, is kept beside the weights and is none of them.
    if not wrapped or any(isinstance(t, OtherTensor) or t.shape for t in own.values()):
        return "", own
    if len(wrapped) > 1:
        raise WeightsError(
            f"{path}: expected the weights under one name, found tensors under"
            f" {' and '.join(wrapped)}; save the right ones alone",
            path=path,
        )
    return wrapped.popitem()


def _tensors(content: object) -> dict[str, Tensor]:
    named = content.items() if isinstance(content, dict) else ()
    return {
        name: value
        for name, value in named
        if isinstance(name, str) and isinstance(value, StoredTensor | OtherTensor)
    }
