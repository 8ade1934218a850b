from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpt2onnx.compare.measure.placement import measure, nodes_by_run, placed
from gpt2onnx.compare.record.answers import Ran
from tests.compare.jobs import a_job


def node(time: int, op: str, provider: str, part: str = "kernel_time") -> dict[str, object]:
    arguments = {"op_name": op, "provider": f"{provider}ExecutionProvider"}
    return {"cat": "Node", "name": f"/{op}_{part}", "ts": time, "args": arguments}


def run(time: int) -> dict[str, object]:
    return {"cat": "Session", "name": "model_run", "ts": time}


def test_the_last_run_of_a_profile() -> None:
    events = [  # a run is written down behind its nodes
        {"cat": "Session", "name": "session_initialization", "ts": 0},
        node(2, "Gather", "CPU"),
        run(1),
        node(10, "MatMul", "CUDA"),
        node(12, "MatMul", "CUDA"),
        node(12, "MatMul", "CUDA", "fence_before"),
        node(13, "MemcpyToHost", "CUDA"),
        node(14, "Shape", "CPU"),
        run(10),
    ]
    nodes = {"cuda": {"MatMul": 2, "MemcpyToHost": 1}, "cpu": {"Shape": 1}}
    assert nodes_by_run(events) == [{"cpu": {"Gather": 1}}, nodes]
    found = placed("cuda", nodes_by_run(events))
    assert (found.nodes, found.ran.captured) == (nodes, False)
    assert found.ran.share == 2 / 3
    assert found.ran.copies == 1
    replayed = placed("cuda", nodes_by_run([*events, run(20)]))
    assert (replayed.nodes, replayed.ran.captured) == (nodes, True)


def test_on_the_cpu_all_of_it_is(models: Callable[[str], Path]) -> None:
    found = measure(a_job("placement", folder=str(models("fp32"))))
    assert found.ran == Ran("cpu", share=1.0, copies=0, captured=False)
    assert found.nodes["cpu"]["GroupQueryAttention"] == 2  # its layers
