"""A file of torch.save, such as pytorch_model.bin, read by PyTorch without running pickled code.

The file is mapped into memory, unless PyTorch before 1.6 wrote it: that has to be loaded whole.
Needs PyTorch, which the rest of the export does without. Knows nothing of GPT-2.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import InstallationError, WeightsError


class TorchFile:
    """The tensors of one file; see `Tensors`."""

    def __init__(self, path: Path) -> None:
        """Map the file. Raises WeightsError, and InstallationError where PyTorch is missing."""
        self._path = path
        self._tensors = _load(path)

    def names(self) -> frozenset[str]:
        return frozenset(self._tensors)

    def file(self, name: str) -> Path:
        return self._path

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def read(self, name: str) -> NDArray[np.float32]:
        tensor = self._tensors[name].detach()
        if not tensor.is_floating_point():
            raise WeightsError(f"{self._path}: expected {name} in floats, found {tensor.dtype}")
        array: NDArray[np.float32] = tensor.float().contiguous().numpy()
        return array


def _load(path: Path) -> dict[str, Any]:
    """The file's tensors by name."""
    try:
        import torch
    except ImportError as error:
        raise InstallationError(
            f"{path}: reading it needs PyTorch, which can't be imported;"
            " install it: pip install 'gpt2onnx[verify]'"
        ) from error
    mapped = zipfile.is_zipfile(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a broken file makes the unpickler raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{path}: expected a whole file of PyTorch weights, found {path.stat().st_size} bytes"
            f" that can't be loaded ({reason}); get the file again"
        ) from error
    named = content.items() if isinstance(content, dict) else ()
    return {str(name): value for name, value in named if isinstance(value, torch.Tensor)}
