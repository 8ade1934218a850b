from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpt2onnx.compare.placement import Placement, measure, nodes_of_last_run


def node(time: int, op: str, provider: str, part: str = "kernel_time") -> dict[str, object]:
    arguments = {"op_name": op, "provider": f"{provider}ExecutionProvider"}
    return {"cat": "Node", "name": f"/{op}_{part}", "ts": time, "args": arguments}


def test_the_last_run_of_a_profile() -> None:
    events = [
        {"cat": "Session", "name": "model_run", "ts": 0},
        node(1, "Gather", "CPU"),
        {"cat": "Session", "name": "model_run", "ts": 10},
        node(11, "MatMul", "CUDA"),
        node(12, "MatMul", "CUDA"),
        node(12, "MatMul", "CUDA", "fence_before"),
        node(13, "MemcpyToHost", "CUDA"),
        node(14, "Shape", "CPU"),
    ]
    nodes = nodes_of_last_run(events)
    assert nodes == {"cuda": {"MatMul": 2, "MemcpyToHost": 1}, "cpu": {"Shape": 1}}
    placement = Placement("cuda", nodes)
    assert placement.share == 2 / 3
    assert placement.copies == 1


def test_on_the_cpu_all_of_it_is(models: Callable[[str], Path]) -> None:
    job = {"folder": str(models("fp32")), "provider": "cpu", "threads": 1, "tf32": False}
    found = measure(job)
    assert (found["provider"], found["share"], found["copies"]) == ("cpu", 1.0, 0)
    assert found["nodes"]["cpu"]["GroupQueryAttention"] == 2  # its layers
