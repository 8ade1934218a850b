"""What a comparison was asked to do, and where: `--resume` wants it the same, but for the graphs.

Knows no result.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from gpt2onnx.compare.record.grid import Configuration, Grid
from gpt2onnx.compare.record.schema import to_json
from gpt2onnx.errors import ParameterError

SCHEMA_VERSION: Literal[1] = 1


@dataclass(frozen=True)
class ModelName:
    """A model as it was given; `identity` changes when its files do."""

    name: str
    identity: str


@dataclass(frozen=True)
class Machine:
    """What figures depend on: two records of one machine have the same."""

    processor: str
    system: str
    logical_processors: int
    default_threads: int
    gpu: str | None
    onnxruntime: str


@dataclass(frozen=True)
class Asked:
    """The head of a record. `gpt2onnx` is the version that measures."""

    schema_version: int
    gpt2onnx: str
    model: ModelName
    machine: Machine
    grid: Grid
    reference: Configuration
    prompts: list[str]

    def require_same(self, before: Asked) -> None:
        """Raise ParameterError where `before` is another comparison's."""
        for name in (each.name for each in fields(self)):
            if _compared(getattr(before, name)) != _compared(getattr(self, name)):
                raise ParameterError(
                    f"the record to go on with is another's: its {name} is "
                    f"{_short(getattr(before, name))}, here {_short(getattr(self, name))}; ask for "
                    "the same, or give another out=DIR",
                    name=name,
                )


def _compared(value: Any) -> Any:
    """A field as it must be the same: a model by its identity, for a folder has several paths.

    Which graphs the CPU runs adds configurations and takes some away, and changes no other.
    """
    if isinstance(value, Grid):
        return replace(value, kernels=None, graph=None)
    return value.identity if isinstance(value, ModelName) else value


def _short(value: object) -> str:
    text = repr(to_json(value))
    return text if len(text) <= 200 else f"{text[:199]}…"
