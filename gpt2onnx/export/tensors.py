"""The weights in a checkpoint's folder: safetensors or PyTorch files, in shards or not.

Knows nothing of GPT-2: names and shapes are whatever the files say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.safetensors_file import SafetensorsFile
from gpt2onnx.export.torch_file import TorchFile
from gpt2onnx.files import read_json

LFS_POINTER = b"version https://git-lfs"


class Tensors(Protocol):
    """Named tensors in files, read one at a time."""

    def names(self) -> frozenset[str]:
        """The names of all tensors."""

    def file(self, name: str) -> Path:
        """The file that a tensor lies in."""

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading its values."""

    def read(self, name: str) -> NDArray[np.float32]:
        """A tensor's values as float32: not to be written to, they may be the file's own memory.

        float64 is rounded, as transformers does. Raises WeightsError for other numbers.
        """


class Shards:
    """The tensors of several files, which an index.json lists."""

    def __init__(self, index: Path, open_file: Callable[[Path], Tensors]) -> None:
        """Open the files. Raises WeightsError where one is missing, or lacks a tensor."""
        weight_map = read_weight_map(index)
        opened = {file: _open(index.parent / file, open_file) for file in set(weight_map.values())}
        self._files = {name: opened[file] for name, file in weight_map.items()}
        for name, file in weight_map.items():
            if name not in opened[file].names():
                raise WeightsError(f"{index}: expected {name} in {file}, which lacks it")

    def names(self) -> frozenset[str]:
        return frozenset(self._files)

    def file(self, name: str) -> Path:
        return self._files[name].file(name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._files[name].shape(name)

    def read(self, name: str) -> NDArray[np.float32]:
        return self._files[name].read(name)


WEIGHTS_FILES: Mapping[str, Callable[[Path], Tensors]] = {
    "model.safetensors": SafetensorsFile,
    "model.safetensors.index.json": lambda index: Shards(index, SafetensorsFile),
    "pytorch_model.bin": TorchFile,
    "pytorch_model.bin.index.json": lambda index: Shards(index, TorchFile),
}
"""What opens which file; the first one that is there is taken, in transformers' order."""


def open_tensors(folder: Path) -> Tensors:
    """The weights in a folder. Raises WeightsError where there are none, or unreadable ones."""
    for name, open_file in WEIGHTS_FILES.items():
        if (folder / name).exists():
            return _open(folder / name, open_file)
    found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise WeightsError(
        f"{folder}: expected weights in {' or '.join(WEIGHTS_FILES)}, found {found};"
        " load weights of another kind in transformers and save them by save_pretrained()"
    )


def read_weight_map(index: Path) -> dict[str, str]:
    """The file, beside the index, of each tensor. Raises WeightsError."""
    weight_map = read_json(index, WeightsError).get("weight_map")
    if not isinstance(weight_map, dict):
        raise WeightsError(f"{index}: expected a weight_map from tensors to files, found none")
    for file in weight_map.values():
        if not isinstance(file, str) or file != Path(file).name:
            raise WeightsError(f"{index}: expected the name of a file beside it, found {file!r}")
    return weight_map


def _open(path: Path, open_file: Callable[[Path], Tensors]) -> Tensors:
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise WeightsError(f"{path}: can't be read: {error.strerror}") from error
    if start == LFS_POINTER:
        raise WeightsError(f"{path}: expected weights, found a Git LFS pointer; run: git lfs pull")
    return open_file(path)
