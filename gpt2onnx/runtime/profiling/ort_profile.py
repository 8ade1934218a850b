"""Reads ONNX Runtime's profile: the operators of each run, their times and weights.

Knows the profiler's file: https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html
Knows nothing of what was run.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from gpt2onnx.errors import ParameterError

# ONNX Runtime drops what comes after (kMaxEvents of its profiler).
MAX_EVENTS = 1_000_000
# Their time is that of the operators inside, which are in the record, too.
CONTROL_FLOW = {"If", "Loop", "Scan"}
# They read the rows that are asked for, not the whole of their tables.
LOOKUPS = ("Gather", "Slice", "Embed")


class Call(NamedTuple):
    """An operator's call: its kind, its time, and the bytes of constants that it was given."""

    operator: str
    microseconds: int
    constants: int


Run: TypeAlias = list[Call]


@dataclass(frozen=True)
class OperatorTime:
    """A kind of operator in a pass: how often it ran, how long altogether, and of the whole."""

    operator: str
    calls: int
    ms: float
    share: float


def read_runs(file: Path) -> list[Run]:
    """The calls of each run of the model, in order. Raises ParameterError where some are lost."""
    events = json.loads(file.read_text(encoding="utf-8"))
    if len(events) >= MAX_EVENTS:
        raise ParameterError(
            f"ONNX Runtime's profiler holds {MAX_EVENTS:,} operators: give fewer steps, or a "
            "shorter prompt"
        )
    runs: list[Run] = []
    for event in sorted(events, key=lambda event: event["ts"]):
        if event["name"] == "model_run":
            runs.append([])
        elif runs and _is_call(event):
            runs[-1].append(_call(event))
    return runs


def by_operator(passes: Sequence[Sequence[Run]]) -> list[OperatorTime]:
    """Medians over passes, each of which is the same runs; the longest first."""
    calls = Counter(call.operator for run in passes[0] for call in run)
    times = [_microseconds(runs) for runs in passes]
    ms = {name: statistics.median(time[name] for time in times) / 1e3 for name in calls}
    total = sum(ms.values())
    return [
        OperatorTime(name, calls[name], ms[name], ms[name] / total)
        for name in sorted(ms, key=lambda name: -ms[name])
    ]


def weight_bytes(run: Run) -> int:
    """Bytes of constants that a run reads, of a session that didn't pack its matrices."""
    return sum(call.constants for call in run if not call.operator.startswith(LOOKUPS))


def is_kernel(event: Mapping[str, Any]) -> bool:
    """Whether an event of the record is a node that ran."""
    name: str = event["name"]
    return event["cat"] == "Node" and name.endswith("_kernel_time")


def _is_call(event: dict[str, Any]) -> bool:
    return is_kernel(event) and event["args"]["op_name"] not in CONTROL_FLOW


def _call(event: dict[str, Any]) -> Call:
    arguments = event["args"]
    return Call(arguments["op_name"], event["dur"], int(arguments.get("parameter_size", 0)))


def _microseconds(runs: Iterable[Run]) -> Counter[str]:
    times: Counter[str] = Counter()
    for run in runs:
        for call in run:
            times[call.operator] += call.microseconds
    return times
