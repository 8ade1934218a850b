"""The benchmarks of servers run, and find the answers that they should; times are as they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serve import __main__ as against_others
from benchmarks.serve import endure, overhead
from benchmarks.serve.endure import scraped, sums
from benchmarks.serve.workload import Wanted, cut, poisson, requests


def test_endurance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(endure, "CAPACITY_S", 0.5)
    out = tmp_path / "endure.json"
    arguments = ["--requests", "40", "--pool", "20", "--leave", "0.5", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["endure", *arguments, "--max-waiting", "4"])
    assert endure.main() == 0
    found = json.loads(out.read_text())
    counts = found["counts"]
    parts = ("answered", "left", "queue_full", "queue_timeout")
    assert counts["sent"] == sum(counts.get(name, 0) for name in parts) == 40
    assert (found["faults"], found["exit_status"]) == ([], 0)
    assert found["options"][-2:] == ["--max-waiting", "4"]


def test_what_the_metrics_say() -> None:
    names = ["finished_total", "cancelled_total", "expired_total", "failed_total"]
    lines = [f'gpt2onnx:requests_{name}{{model_name="m"}} 2.0' for name in names]
    lines += [
        f'gpt2onnx:num_requests_{name}{{model_name="m"}} 1.0'
        for name in ("running", "waiting", "frozen")
    ]
    lines += ['gpt2onnx:requests_accepted_total{model_name="m"} 12.0', "process_x 3"]
    assert sums(scraped("\n".join(lines).encode())) == (12.0, 11.0)


def test_overhead(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--clients", "2", "--requests", "3", "--tokens", "4", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["overhead", *arguments])
    overhead.main()
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["way"] for row in rows] == ["engine", "server, streamed", "server, whole"]
    assert all(row["equal"] == "True" for row in rows)


def test_servers_under_the_same_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = ["--reference", "demo", "--ours", "int8=demo", "--requests", "3", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["serve", *arguments, "--out", str(tmp_path)])
    assert against_others.main() == 0
    found: dict[str, Any] = json.loads((tmp_path / "serve.json").read_text())
    for name in ("saturation", "arrivals"):
        (row,) = found["rows"][name]
        assert (row["server"], row["top-1"], row["equal"]) == ("gpt2onnx int8", 1.0, 1.0)
        assert row["of first"] == 1.0


def test_the_workload() -> None:
    found = requests(40, 100)
    assert found == requests(40, 100)
    assert all(8 <= len(each.prompt) <= 400 and 8 <= each.count <= 64 for each in found)
    beginnings = [tuple(each.prompt[:64]) for each in found[1::4] if len(each.prompt) > 64]
    assert len(beginnings) > 1
    assert len(set(beginnings)) == 1
    assert poisson(3, float("inf")) == [0.0, 0.0, 0.0]
    times = poisson(2000, 10.0)
    assert times == sorted(times)
    assert 180 < times[-1] < 220
    assert cut([Wanted([1], 3)], [[7, 8, 9]], 2) == [([1], 7), ([1, 7, 8], 9)]
