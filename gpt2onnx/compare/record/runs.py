"""A cell of the grid: its measurements, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gpt2onnx.compare.record.answers import Program, Ran, Summary
from gpt2onnx.compare.record.costs import Cost
from gpt2onnx.compare.record.grid import Cell
from gpt2onnx.compare.record.schema import Absent, Flat

# What a machine may not tell: its energy, the device's, and the device's memory in use.
Figure: TypeAlias = Literal["cpu", "device", "device_bytes"]
# Tokens a second, and milliseconds a step: what is outside was measured nowhere.
LEAST, MOST = 1e-9, 1e15


@dataclass(frozen=True)
class Steps:
    """Milliseconds a decode step. Raises ValueError for none."""

    median: float
    p95: float

    def __post_init__(self) -> None:
        if not LEAST <= self.median <= MOST:
            raise ValueError(f"median is {self.median}: expected milliseconds, above 0")


@dataclass(frozen=True)
class Memory:
    """Bytes as the last step was done; None is what isn't known."""

    resident_bytes: int | None
    anonymous_bytes: int | None
    device_bytes: int | None


@dataclass(frozen=True)
class Energy:
    """`reasons` say why a figure is None, here or in the memory."""

    cpu_joules_per_token: float | None
    device_joules_per_token: float | None
    reasons: dict[Figure, str]


@dataclass(frozen=True)
class Speed:
    """What a measuring process finds. Raises ValueError for speeds that no machine has."""

    load_s: float
    first_token_s: float
    step_ms: Steps
    tokens_per_s: float
    memory: Memory
    energy: Energy

    def __post_init__(self) -> None:
        if not LEAST <= self.tokens_per_s <= MOST:
            raise ValueError(f"tokens_per_s is {self.tokens_per_s}: expected a speed, above 0")


@dataclass(frozen=True)
class Run:
    """A cell that was measured. `placement` and `program` are as those of answers."""

    cell: Flat[Cell]
    status: Literal["ok"] = field(default="ok", kw_only=True)
    speed: Flat[Speed]
    placement: Ran | None
    program: Absent[Program] = field(default=None, kw_only=True)
    agreement: Summary | None
    cost: Flat[Cost]


@dataclass(frozen=True)
class Missing:
    """A cell that couldn't be measured."""

    cell: Flat[Cell]
    status: Literal["unavailable"] = field(default="unavailable", kw_only=True)
    reason: str
