"""The weights in a checkpoint's folder: safetensors or PyTorch files, in shards or not.

Knows nothing of GPT-2: names and shapes are whatever the files say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import WeightsError, shown
from gpt2onnx.export.checkpoint.safetensors_file import SafetensorsFile
from gpt2onnx.export.checkpoint.torch_file import TorchFile
from gpt2onnx.files import as_path, open_regular, read_json

# A thousand tensors take 100 KB.
MAX_INDEX = 10_000_000
LFS_POINTER = b"version https://git-lfs"


class Tensors(Protocol):
    """Named tensors in files, read one at a time.

    `as_saved`: whether transformers' from_pretrained() finds the same ones in these files.
    """

    @property
    def as_saved(self) -> bool: ...

    def names(self) -> frozenset[str]:
        """The names of all tensors."""

    def file(self, name: str) -> Path:
        """The file that a tensor lies in."""

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading its values."""

    def dtype(self, name: str) -> str:
        """The type that a tensor is stored in, a key of FLOATS where it can be read."""

    def read(self, name: str) -> NDArray[np.float32]:
        """A tensor's values as float32: not to be written to, they may be the file's own memory.

        float64 is rounded, as transformers does. Raises WeightsError for other numbers.
        """


OpenFile = Callable[[Path], Tensors]


class Shards:
    """The tensors of several files, which an index.json lists."""

    def __init__(self, index: Path, open_file: OpenFile, dispensable: str) -> None:
        """Open the files. Raises WeightsError where one is missing, or lacks a tensor.

        An index may list the `dispensable` one in vain, by its own name or behind a prefix.
        """
        weight_map = read_weight_map(index)
        opened = {
            file: open_weights(index.parent / file, open_file)
            for file in sorted(set(weight_map.values()))
        }
        lacking = {name for name, file in weight_map.items() if name not in opened[file].names()}
        for name in sorted(lacking):
            if not dispensable or not f".{name}".endswith(f".{dispensable}"):
                raise WeightsError(
                    f"{index}: expected {name:.100} in {weight_map[name]}, which lacks it",
                    path=index,
                    name=name,
                )
        self._files = {name: opened[f] for name, f in weight_map.items() if name not in lacking}
        self.as_saved = all(file.as_saved for file in opened.values())

    def names(self) -> frozenset[str]:
        return frozenset(self._files)

    def file(self, name: str) -> Path:
        return self._files[name].file(name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._files[name].shape(name)

    def dtype(self, name: str) -> str:
        return self._files[name].dtype(name)

    def read(self, name: str) -> NDArray[np.float32]:
        return self._files[name].read(name)


WEIGHTS_FILES: Mapping[str, OpenFile] = {
    "model.safetensors": SafetensorsFile,
    "model.safetensors.index.json": SafetensorsFile,
    "pytorch_model.bin": TorchFile,
    "pytorch_model.bin.index.json": TorchFile,
}
"""What opens which file, or the files that an index lists; the first one that is there is taken, in
transformers' order."""


def open_tensors(folder: Path, dispensable: str = "") -> Tensors:
    """The weights in a folder. Raises WeightsError where there are none, or unreadable ones.

    An index may list the tensor `dispensable` and no file have it: a head that is tied.
    """
    for name, open_file in WEIGHTS_FILES.items():
        if (folder / name).exists():
            if name.endswith(".json"):
                return Shards(folder / name, open_file, dispensable)
            return open_weights(folder / name, open_file)
    found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise WeightsError(
        f"{folder}: expected weights in {' or '.join(WEIGHTS_FILES)}, found {found:.500};"
        " load weights of another kind in transformers and save them by save_pretrained()",
        path=folder,
    )


def read_weight_map(index: Path) -> dict[str, str]:
    """The file, beside the index, of each tensor. Raises WeightsError."""
    weight_map = read_json(index, WeightsError, MAX_INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise WeightsError(
            f"{index}: expected a weight_map from tensors to files, found none",
            path=index,
            name="weight_map",
        )
    for file in weight_map.values():
        if not isinstance(file, str) or not file or file != Path(file).name:
            raise WeightsError(
                f"{index}: expected the name of a file beside it, found {shown(file)}",
                path=index,
                name="weight_map",
            )
        as_path(file, f"{index}", WeightsError)
    return weight_map


def open_weights(path: Path, open_file: OpenFile) -> Tensors:
    """One file of weights. Raises WeightsError where it is damaged, or wasn't fetched."""
    with open_regular(path, WeightsError) as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise WeightsError(
            f"{path}: expected weights, found a Git LFS pointer; run: git lfs pull", path=path
        )
    return open_file(path)
