"""Finds the model folder of a configuration: given, or exported from a checkpoint.

Knows the export as a function that is passed in; knows nothing of how it works.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gpt2onnx.compare.record.grid import CPU, REFERENCE, Configuration
from gpt2onnx.compare.runtimes.table import RUNTIMES
from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.folder.model_folder import KERNELS_GRAPH, ModelFolder, open_folder
from gpt2onnx.runtime.ort.provider import export_device

# What a config.json says of a model's shape, whoever exported it and in whatever precision.
SHAPE = ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")


class Export(Protocol):
    """A precision and a device, "cpu" or "cuda", in; a model folder out.

    `runtime` is whom it is for, as `export --for` has it, and `graph` None its own.
    """

    def __call__(
        self, precision: str, device: str, runtime: str = "onnxruntime", graph: str | None = None
    ) -> Path: ...


class Models(Protocol):
    """Where models come from. `name` and `identity` go into the record."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def reference(self) -> Configuration:
        """What all others are compared with."""

    def folder(self, configuration: Configuration) -> Path:
        """The model folder. Raises as the export does, for what can't be made."""


@dataclass(frozen=True)
class Exported:
    """Models that are made of a checkpoint. The reference is the CPU in fp32."""

    name: str
    identity: str
    export: Export
    reference: Configuration = REFERENCE
    kernels: tuple[str, ...] = ()  # the precisions whose folders for the CPU have their graph

    def folder(self, configuration: Configuration) -> Path:
        precision = configuration.precision
        if configuration.runtime is None:
            return self.export(precision, export_device(configuration.provider))
        runtime = RUNTIMES[configuration.runtime]
        return self.export(precision, "cpu", runtime.target, runtime.graph(precision))


class Given:
    """Model folders of one model, in a precision each.

    The reference is the CPU in fp32, or where that isn't among them the CPU in the first one's.
    Raises ModelFolderError; ParameterError for folders that can't be compared.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        folders = [open_folder(path) for path in paths]
        _check_alike(folders)
        self._folders = dict(zip(map(_precision, folders), folders, strict=True))
        if len(self._folders) < len(folders):
            names = ", ".join(map(_precision, folders))
            raise ParameterError(f"the models' precisions are {names}: expected each of them once")
        self.name = ", ".join(map(str, paths))
        self.identity = _identity(folders)
        first = next(iter(self._folders))
        self.reference = REFERENCE if "fp32" in self._folders else Configuration(CPU, first)

    @property
    def precisions(self) -> tuple[str, ...]:
        return tuple(self._folders)

    @property
    def kernels(self) -> tuple[str, ...]:
        """The precisions whose folders have the kernels' graph."""
        folders = self._folders.items()
        return tuple(name for name, each in folders if (each.path / KERNELS_GRAPH).is_file())

    def folder(self, configuration: Configuration) -> Path:
        return self._folders[configuration.precision].path


def _identity(folders: Sequence[ModelFolder]) -> str:
    """Changes when a graph, its weights or the tokenizer does."""
    told = [(folder.identity(), _sha256(folder.tokenizer)) for folder in folders]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]


def _precision(folder: ModelFolder) -> str:
    """As the manifest says; a folder of another exporter goes by its own name."""
    manifest = folder.manifest or {}
    return str(manifest.get("precision", folder.path.resolve().name))


def _check_alike(folders: Sequence[ModelFolder]) -> None:
    first = folders[0]
    for other in folders[1:]:
        if _sha256(other.tokenizer) != _sha256(first.tokenizer):
            raise ParameterError(
                f"{first.path} and {other.path} have different tokenizers: expected one model in "
                "several precisions"
            )
        for name in (name for name in SHAPE if name in first.config and name in other.config):
            if other.config[name] != first.config[name]:
                raise ParameterError(
                    f"{first.path} and {other.path} have {name}={first.config[name]} and "
                    f"{name}={other.config[name]}: expected one model in several precisions"
                )


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
