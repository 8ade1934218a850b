"""A record worked by hand: runs of some tokens a second, on a machine of no name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpt2onnx.compare.record.answers import Ran
from gpt2onnx.compare.record.asked import SCHEMA_VERSION, Asked, Machine, ModelName
from gpt2onnx.compare.record.costs import Cost
from gpt2onnx.compare.record.grid import REFERENCE, Cell, Configuration, Grid
from gpt2onnx.compare.record.record import Record
from gpt2onnx.compare.record.runs import Energy, Memory, Missing, Run, Speed, Steps

MACHINE = Machine("a processor", "a system", 2, 2, None, "onnxruntime 1")


def an_asked(**given: Any) -> Asked:
    usual: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "gpt2onnx": "0",
        "model": ModelName("a model", "0"),
        "machine": MACHINE,
        "grid": Grid(("cpu",), ("fp32",)),
        "reference": REFERENCE,
        "prompts": ["hello"],
    }
    return Asked(**{**usual, **given})


def a_record(runs: Sequence[Run | Missing] = (), **given: Any) -> Record:
    return Record(**{"asked": an_asked(), "runs": list(runs), **given})


def a_run(
    provider: str,
    precision: str,
    batch: int,
    speed: float | None,
    energy: Energy | None = None,
) -> Run | Missing:
    """At a context of 32, `speed` tokens a second; of None it is one that went wrong."""
    cell = Cell(Configuration(provider, precision), batch, 32)
    if speed is None:
        return Missing(cell, "not there")
    memory, joules = Memory(None, None, None), energy or Energy(None, None, {})
    found = Speed(0.1, 0.1, Steps(1.0, 1.0), speed, memory, joules)
    ran = Ran(provider, share=1.0, copies=0, captured=False)
    return Run(cell, found, ran, agreement=None, cost=Cost())
