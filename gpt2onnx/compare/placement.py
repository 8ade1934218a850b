"""Where a decode step ran, by ONNX Runtime's own profile of it: no plan, but what was executed.

Copies between devices are nodes of their own there, MemcpyFromHost and MemcpyToHost; inputs and
outputs that the session itself moves are not among them.
https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt2onnx.compare.job import Job
from gpt2onnx.compare.opening import provider_options
from gpt2onnx.runtime.folder import open_folder
from gpt2onnx.runtime.opening import open_decoder
from gpt2onnx.runtime.recording import is_kernel
from gpt2onnx.runtime.session import Profiler, open_session, short_name

COPIES = ("MemcpyFromHost", "MemcpyToHost")


@dataclass(frozen=True)
class Placement:
    """The nodes of one decode step: how many of each operator ran, by provider."""

    provider: str
    nodes: Mapping[str, Mapping[str, int]]

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
            "nodes": {name: dict(sorted(ops.items())) for name, ops in self.nodes.items()},
        }


def measure(job: Job) -> dict[str, Any]:
    """Run one decode step under ONNX Runtime's profiler: a Placement, as plain data.

    Errors: as opening a model.
    """
    folder = open_folder(job["folder"])
    with tempfile.TemporaryDirectory() as place:
        session = open_session(
            folder.graph,
            job["provider"],
            provider_options(job),
            job["threads"],
            profiler=Profiler(Path(place, "profile"), packed=True),
        )
        decoder = open_decoder(folder, session)
        row = decoder.new_row()
        decoder.prefill(row, np.zeros(2, np.int64))
        decoder.step([row], np.zeros(1, np.int64))
        events = json.loads(Path(session.raw.end_profiling()).read_text(encoding="utf-8"))
        decoder.free(row)
    return Placement(session.provider, nodes_of_last_run(events)).as_dict()


def nodes_of_last_run(events: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Operators by provider that the last of a profile's runs executed."""
    began = max(event["ts"] for event in events if event["name"] == "model_run")
    nodes: dict[str, Counter[str]] = {}
    for event in events:
        if is_kernel(event) and event["ts"] >= began:
            arguments = event["args"]
            provider = short_name(arguments["provider"])
            nodes.setdefault(provider, Counter())[arguments["op_name"]] += 1
    return {name: dict(ops) for name, ops in nodes.items()}
