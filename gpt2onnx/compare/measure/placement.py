"""Where a decode step ran, by ONNX Runtime's own profile of it: no plan, but what was executed.

Copies between devices are nodes of their own there, MemcpyFromHost and MemcpyToHost; inputs and
outputs that the session itself moves are not among them. A step that replays a CUDA graph executes
no node; what it replays is that of the step before it.
https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gpt2onnx.compare.measure.job import Job
from gpt2onnx.compare.measure.opening import provider_options
from gpt2onnx.errors import ProviderError
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.open_model import open_decoder
from gpt2onnx.runtime.ort.provider import short_name
from gpt2onnx.runtime.ort.session import open_session
from gpt2onnx.runtime.ort.session_options import Profiler
from gpt2onnx.runtime.profiling.ort_profile import is_kernel

COPIES = ("MemcpyFromHost", "MemcpyToHost")
Nodes: TypeAlias = Mapping[str, Mapping[str, int]]  # how many of each operator, by provider


@dataclass(frozen=True)
class Placement:
    """The nodes of one decode step, and whether steps after it replay it as a CUDA graph."""

    provider: str
    nodes: Nodes
    captured: bool

    @property
    def share(self) -> float:
        """The share of the nodes that the session's own provider ran; copies are not counted."""
        work = {
            name: sum(count for op, count in ops.items() if op not in COPIES)
            for name, ops in self.nodes.items()
        }
        return work.get(self.provider, 0) / sum(work.values())

    @property
    def copies(self) -> int:
        return sum(ops.get(copy, 0) for ops in self.nodes.values() for copy in COPIES)

    def as_dict(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "share": self.share,
            "copies": self.copies,
            "captured": self.captured,
            "nodes": {name: dict(sorted(ops.items())) for name, ops in self.nodes.items()},
        }


def measure(job: Job) -> dict[str, Any]:
    """Run decode steps under ONNX Runtime's profiler: a Placement, as plain data.

    Errors: as opening a model; ProviderError where CUDA graphs were asked for and none was made.
    """
    folder = open_folder(job["folder"])
    with tempfile.TemporaryDirectory(dir=job["work"]) as place:
        session = open_session(
            folder.graph,
            job["provider"],
            provider_options(job),
            job["threads"],
            profiler=Profiler(Path(place) / "profile", packed=True),
        )
        decoder = open_decoder(folder, session)
        row = decoder.new_row()
        decoder.prefill(row, np.zeros(2, np.int64))
        for _ in range(2):  # where steps are captured, the second is a replay
            decoder.step([row], np.zeros(1, np.int64))
        events = json.loads(Path(session.raw.end_profiling()).read_text(encoding="utf-8"))
        decoder.free(row)
    found = placed(session.provider, nodes_by_run(events))
    if session.captures and not found.captured:
        raise ProviderError(
            "this model's decode steps aren't captured as CUDA graphs: export it without an "
            "attention bias, or don't ask for them"
        )
    return found.as_dict()


def placed(provider: str, runs: Sequence[Nodes]) -> Placement:
    """By a profile's runs: the nodes of the last that executed any; a replay executes none."""
    return Placement(provider, next(filter(None, reversed(runs))), captured=not runs[-1])


def nodes_by_run(events: Sequence[Mapping[str, Any]]) -> list[Nodes]:
    """What each of a profile's runs executed, in their order."""
    runs: list[dict[str, Counter[str]]] = []
    for event in sorted(events, key=lambda event: (event["ts"], event["name"] != "model_run")):
        if event["name"] == "model_run":
            runs.append({})
        elif runs and is_kernel(event):
            arguments = event["args"]
            nodes = runs[-1].setdefault(short_name(arguments["provider"]), Counter())
            nodes[arguments["op_name"]] += 1
    return list(runs)
