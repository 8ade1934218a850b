"""A LoRA adapter of PEFT's: its options and its tensors, by the modules of GPT-2 that they change.

Knows how PEFT names and scales them (https://huggingface.co/docs/peft/developer_guides/checkpoint);
knows nothing of the checkpoint that they are merged with but its tensors' shapes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import AdapterError, WeightsError, shown
from gpt2onnx.export.checkpoint.adapter_config import (
    ADAPTER_CONFIG,
    LoraConfig,
    read_adapter_config,
)
from gpt2onnx.export.checkpoint.floats import is_finite
from gpt2onnx.export.checkpoint.safetensors_file import SafetensorsFile
from gpt2onnx.export.checkpoint.tensors import OpenFile, Tensors, open_weights
from gpt2onnx.export.checkpoint.torch_file import TorchFile
from gpt2onnx.files import as_path, open_regular, path_errors, read_bytes

FILES: Mapping[str, OpenFile] = {
    "adapter_model.safetensors": SafetensorsFile,
    "adapter_model.bin": TorchFile,
}
"""What opens which file; the first one that is there is taken, in PEFT's order."""

NAME = re.compile(
    r"base_model\.model\.(?P<path>(?:transformer\.)?(?P<module>[\w.]+?))\."
    r"(?P<part>lora_[AB]\.weight|lora_B\.bias|lora_embedding_[AB]|(?:base_layer\.)?(?:weight|bias))",
    re.ASCII,
)
MASK = re.compile(r"base_model\.model\.(transformer\.)?h\.[0-9]+\.attn\.(masked_)?bias", re.ASCII)
"""Masks that old versions of transformers stored, of no concern here."""

COPY = re.compile(r"\.(modules_to_save\.\w+|original_module)\.")
"""Within the name of what PEFT stores a second time, beside a module that was saved whole."""

LINEAR = "lm_head"
"""The one module whose weight is stored [out, in]; the others' are [in, out]."""
EMBEDDINGS = ("wte", "wpe")

Part = tuple[str, str]  # the module, and what of it


@dataclass(frozen=True)
class Adapter:
    """An adapter. Its tensors stay on disk until they are asked for.

    `name` is what the user gave; `sha256` is over adapter_config.json and the weights' file, one
    after the other.
    """

    name: str
    sha256: str
    config: LoraConfig
    tensors: Tensors = field(repr=False)
    _names: Mapping[Part, str] = field(repr=False)  # in the file
    _paths: Mapping[str, str] = field(repr=False)  # of modules, as patterns are matched with

    def changes(self, module: str) -> bool:
        """Whether it has anything for a module, by the name that `tensor_shapes` has."""
        return any(of == module for of, _ in self._names)

    def saved(self, name: str) -> NDArray[np.float32] | None:
        """The tensor of this name where it was saved whole, as a part of the adapted model."""
        return self._read(*_split(name))

    def base(self, name: str) -> NDArray[np.float32] | None:
        """The tensor of this name where the base model's own was saved beside its two factors."""
        module, part = _split(name)
        return self._read(module, f"base_layer.{part}")

    def delta(self, name: str) -> NDArray[np.float32] | None:
        """What is added to the tensor of this name, in its shape; None for nothing."""
        module, part = _split(name)
        scale = self.config.scale(self._paths.get(module, module))
        if part == "bias":
            bias = self._read(module, "lora_B.bias")
            return None if bias is None else bias * np.float32(scale)
        first, second = _factors(module)
        a, b = self._read(module, first), self._read(module, second)  # [r, in], [out, r]
        if a is None or b is None:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            product = (b @ a) * np.float32(scale)
        if not is_finite(product):
            raise self._wrong(self._names[module, first], "a product in float32's range")
        return product if module == LINEAR else product.T

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """See that it fits a model with tensors of these shapes, and holds numbers.

        Raises AdapterError, by the tensor's name.
        """
        for (module, part), stored in self._names.items():
            self._check_shape(stored, self._expected(module, part, stored, shapes))
            first, second = _factors(module)
            if part.startswith("lora_") and not {(module, first), (module, second)} <= {
                *self._names
            }:
                raise self._wrong(stored, f"{first} and {second}, found one of them")
            if not is_finite(self.tensors.read(stored)):
                raise self._wrong(stored, "finite numbers, found NaN or infinity")

    def _expected(
        self, module: str, part: str, stored: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[int, ...]:
        """The shape that a part of a module has to have."""
        weight = shapes.get(f"{module}.weight", ())
        own = part.rpartition(".")[2]
        if part in (own, f"base_layer.{own}") and f"{module}.{own}" in shapes:
            return shapes[f"{module}.{own}"]
        if part not in (*_factors(module), "lora_B.bias") or len(weight) != 2:
            raise self._wrong(stored, f"a tensor of the checkpoint's modules{self._made_for()}")
        n_in, n_out = reversed(weight) if module == LINEAR else weight
        if part == "lora_B.bias":
            return shapes.get(f"{module}.bias", ())
        rank = self.config.rank(self._paths[module])
        return (rank, n_in) if part == _factors(module)[0] else (n_out, rank)

    def _check_shape(self, stored: str, expected: tuple[int, ...]) -> None:
        found = self.tensors.shape(stored)
        if found != expected:
            raise self._wrong(
                stored,
                f"the shape {list(expected)}, as the checkpoint and {ADAPTER_CONFIG} have it, found"
                f" {list(found)}{self._made_for()}",
            )

    def _made_for(self) -> str:
        return f"; the adapter was made for {shown(self.config.base)}" if self.config.base else ""

    def _wrong(self, stored: str, wanted: str) -> AdapterError:
        return AdapterError(
            f"{self.tensors.file(stored)}: {stored:.100}: expected {wanted}",
            path=self.tensors.file(stored),
            name=stored,
        )

    def _read(self, module: str, part: str) -> NDArray[np.float32] | None:
        stored = self._names.get((module, part))
        return None if stored is None else self.tensors.read(stored)


def open_adapters(given: object) -> tuple[Adapter, ...]:
    """The adapters in one folder or several, in their order. Raises AdapterError, WeightsError."""
    if isinstance(given, str | os.PathLike) or not isinstance(given, Iterable):
        given = (given,)
    return tuple(map(open_adapter, given))


def open_adapter(given: object) -> Adapter:
    """An adapter that PEFT saved. Raises AdapterError, or WeightsError for a damaged file."""
    folder = as_path(given, "adapter", AdapterError)
    with path_errors(folder, AdapterError):
        if not folder.is_dir():
            raise AdapterError(
                f"{folder}: expected an adapter's folder, found none; download it", path=folder
            )
        if not (folder / ADAPTER_CONFIG).exists():
            raise AdapterError(
                f"{folder}: expected an adapter that PEFT saved, found no {ADAPTER_CONFIG}",
                path=folder,
                name=ADAPTER_CONFIG,
            )
        file = next((folder / name for name in FILES if (folder / name).exists()), None)
    if file is None:
        raise AdapterError(f"{folder}: expected {' or '.join(FILES)}, found neither", path=folder)
    config = read_adapter_config(folder)
    tensors = open_weights(file, FILES[file.name])
    names, paths = _named(tensors, file)
    return Adapter(os.fspath(folder), _sha256(folder, file), config, tensors, names, paths)


def _named(tensors: Tensors, file: Path) -> tuple[dict[Part, str], dict[str, str]]:
    """The tensors' names in the file, and the modules' whole names. Raises AdapterError."""
    names: dict[Part, str] = {}
    paths: dict[str, str] = {}
    for stored in sorted(tensors.names()):
        is_copy = COPY.search(stored) and COPY.sub(".", stored) in tensors.names()
        if MASK.fullmatch(stored) or is_copy:
            continue
        parts = NAME.fullmatch(stored)
        if not parts:
            raise AdapterError(
                f"{file}: expected LoRA's tensors of GPT-2, such as"
                f" base_model.model.transformer.h.0.attn.c_attn.lora_A.weight, found {stored:.100}",
                path=file,
                name=stored,
            )
        paths[parts["module"]] = parts["path"]
        if names.setdefault((parts["module"], parts["part"]), stored) != stored:
            raise AdapterError(
                f"{file}: {stored:.100} comes twice, with and without transformer.",
                path=file,
                name=stored,
            )
    if not names:
        raise AdapterError(f"{file}: expected LoRA's tensors, found none", path=file)
    return names, paths


def _factors(module: str) -> tuple[str, str]:
    """What the two factors of a module's weight are called: [r, in] and [out, r]."""
    if module in EMBEDDINGS:
        return "lora_embedding_A", "lora_embedding_B"
    return "lora_A.weight", "lora_B.weight"


def _split(name: str) -> Part:
    module, _, part = name.rpartition(".")
    return module, part


def _sha256(folder: Path, file: Path) -> str:
    digest = hashlib.sha256(read_bytes(folder / ADAPTER_CONFIG, AdapterError))
    with open_regular(file, WeightsError) as opened, path_errors(file, WeightsError):
        return hashlib.file_digest(opened, lambda: digest).hexdigest()
