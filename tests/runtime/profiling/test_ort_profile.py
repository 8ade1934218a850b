from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.profiling import ort_profile as recording
from gpt2onnx.runtime.profiling.ort_profile import (
    Call,
    OperatorTime,
    by_operator,
    read_runs,
    weight_bytes,
)


def run_at(ts: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": 50, "args": {}}


def node(ts: int, operator: str, dur: int, **arguments: str) -> dict[str, Any]:
    arguments = {"op_name": operator, "parameter_size": "0", **arguments}
    name = f"/{operator}_kernel_time"
    return {"cat": "Node", "name": name, "ts": ts, "dur": dur, "args": arguments}


def record(tmp_path: Path, *events: dict[str, Any]) -> Path:
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(events))
    return file


def test_calls_belong_to_the_run_that_they_begin_after(tmp_path: Path) -> None:
    loading = {"cat": "Session", "name": "model_loading_uri", "ts": 1, "dur": 5, "args": {}}
    before = {"cat": "Node", "name": "/a_fence_before", "ts": 11, "dur": 9, "args": {}}
    inside = node(13, "If", 9)
    events = [
        node(12, "Add", 3),
        run_at(10),
        loading,
        inside,
        before,
        run_at(60),
        node(61, "Mul", 4),
    ]
    runs = read_runs(record(tmp_path, *events))
    assert runs == [[Call("Add", 3, 0)], [Call("Mul", 4, 0)]]


def test_medians_over_passes() -> None:
    def a_pass(first: int, second: int) -> list[list[Call]]:
        return [[Call("MatMul", first, 0), Call("Add", 1000, 0)], [Call("MatMul", second, 0)]]

    times = by_operator([a_pass(1000, 1000), a_pass(2000, 2000), a_pass(500, 99_500)])
    assert times == [OperatorTime("MatMul", 2, 4.0, 0.8), OperatorTime("Add", 1, 1.0, 0.2)]


def test_tables_are_not_weights_that_a_run_reads() -> None:
    operators = ["MatMul", "Gather", "GatherBlockQuantized", "Slice", "Gemm"]
    run = [Call(name, 1, 10**n) for n, name in enumerate(operators)]
    assert weight_bytes(run) == 10001


def test_a_record_that_was_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_EVENTS", 2)
    with pytest.raises(ParameterError, match="profiler holds 2 operators: give fewer steps"):
        read_runs(record(tmp_path, run_at(1), node(2, "Add", 1)))
