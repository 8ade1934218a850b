"""Where a decode step ran, from ONNX Runtime's profile of a real run.

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
from pathlib import Path
from typing import Any

import numpy as np

from gpt2onnx.compare.measure.job import Job
from gpt2onnx.compare.measure.opening import provider_options
from gpt2onnx.compare.record.answers import Nodes, Placement, Ran
from gpt2onnx.runtime.chosen_graph import choose_graph
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.open_model import open_decoder
from gpt2onnx.runtime.ort.provider import short_name
from gpt2onnx.runtime.ort.session_options import Profiler
from gpt2onnx.runtime.profiling.ort_profile import is_kernel

COPIES = ("MemcpyFromHost", "MemcpyToHost")


def measure(job: Job) -> Placement:
    """Run decode steps under ONNX Runtime's profiler. Raises as opening a model does."""
    chosen = choose_graph(open_folder(job.folder), job.graph, job.provider)
    with tempfile.TemporaryDirectory(dir=job.work) as place:
        session = chosen.open(
            job.provider,
            provider_options(job),
            job.threads,
            profiler=Profiler(Path(place) / "profile", packed=True),
        )
        decoder = open_decoder(chosen.folder, session)
        row = decoder.new_row()
        reads.prefill(decoder, row, np.zeros(2, np.int64))
        for _ in range(2):  # where steps are captured, the second is a replay
            reads.step(decoder, [row], np.zeros(1, np.int64))
        events = json.loads(Path(session.raw.end_profiling()).read_text(encoding="utf-8"))
        decoder.free(row)
    return placed(session.provider, nodes_by_run(events))


def placed(provider: str, runs: Sequence[Nodes]) -> Placement:
    """By a profile's runs: the nodes of the last that executed any; a replay executes none."""
    nodes = next(filter(None, reversed(runs)))
    ran = Ran(provider, _share(provider, nodes), _copies(nodes), captured=not runs[-1])
    return Placement(ran, {name: dict(sorted(ops.items())) for name, ops in nodes.items()})


def _share(provider: str, nodes: Nodes) -> float:
    """The share of the nodes that the session's own provider ran; copies are not counted."""
    work = {
        name: sum(count for op, count in ops.items() if op not in COPIES)
        for name, ops in nodes.items()
    }
    return work.get(provider, 0) / sum(work.values())


def _copies(nodes: Nodes) -> int:
    return sum(ops.get(copy, 0) for ops in nodes.values() for copy in COPIES)


def nodes_by_run(events: Sequence[Mapping[str, Any]]) -> list[Nodes]:
    """What each of a profile's runs executed, in their order."""
    runs: list[dict[str, dict[str, int]]] = []
    for event in sorted(events, key=lambda event: (event["ts"], event["name"] != "model_run")):
        if event["name"] == "model_run":
            runs.append({})
        elif runs and is_kernel(event):
            arguments = event["args"]
            nodes = runs[-1].setdefault(short_name(arguments["provider"]), Counter())
            nodes[arguments["op_name"]] += 1
    return runs
