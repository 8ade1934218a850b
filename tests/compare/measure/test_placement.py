from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx.compare.measure.placement import measure, nodes_by_run, placed
from gpt2onnx.compare.record.answers import Ran
from gpt2onnx.errors import ProviderError
from gpt2onnx.runtime import chosen_graph
from gpt2onnx.runtime.ort.session import Session, open_session
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


def test_steps_that_are_not_captured_though_asked_for(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an attention bias the decoder captures none, though the session would."""

    def capturing(*arguments: Any, **more: Any) -> Session:
        return replace(open_session(*arguments, **more), captures=True)

    monkeypatch.setattr(chosen_graph, "open_session", capturing)
    folder = tmp_path / "model"
    gpt2onnx.export(checkpoint, folder, precision="fp32", with_attention_bias=True, verify=False)
    with pytest.raises(ProviderError, match="aren't captured as CUDA graphs: export it without"):
        measure(a_job("placement", folder=str(folder)))
