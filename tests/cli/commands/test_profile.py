from __future__ import annotations

import json

import pytest

from gpt2onnx.runtime.profiling import roofline
from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("todays_graph")


@pytest.fixture(autouse=True)
def _short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "ROUND", 1 << 20)


def test_json(run: Run) -> None:
    options = ("--prompt-length", 40, "--context", 30, "--steps", 3, "--threads", 1)
    status, out, err = run("profile", "demo", *options, "--json")
    found = json.loads(out)
    assert status == 0
    assert err in ("", "gpt2onnx: exporting the bundled model, once\n")
    assert [found[name] for name in ("model", "precision", "graph", "provider", "threads")] == [
        *("demo", "int8", "fused", "cpu"),
        1,
    ]
    assert (found["prompt"]["tokens"], found["decode"]["tokens"]) == (40, 30)
    for phase in (found["prompt"], found["decode"]):
        times = [each["ms"] for each in phase["operators"]]
        assert sum(times) == pytest.approx(phase["operators_ms"])
        assert phase["ratio"] == pytest.approx(phase["measured_ms"] / phase["roofline_ms"])
        assert list(phase["operators"][0]) == ["operator", "calls", "ms", "share"]
    operators = {each["operator"]: each["calls"] for each in found["decode"]["operators"]}
    assert operators["GroupQueryAttention"] == 4
    assert operators["MatMulNBits"] == 4 * 4 + 1


def test_tables(run: Run, folder: str) -> None:
    status, out, err = run("profile", folder, "--threads", 1, "--steps", 2)
    first, prompt, step = out.split("\n\n")
    assert (status, err) == (0, "")
    assert first.startswith(f"{folder}: fp32, fused; cpu, 1 thread; weights 0.1 MB, cache 0.5 kB")
    assert prompt.startswith("a prompt of 64 tokens\noperator ")
    assert step.startswith("a step after 63 tokens\noperator ")
    said = first.splitlines()[1]
    assert said.startswith("cpu, chosen because ")
    assert "; not model.kernels.onnx: gpt2onnx-kernels is switched off" in said
    for part in (prompt, step):
        names = [line.split("  ")[0] for line in part.splitlines()]
        assert "GroupQueryAttention" in names
        assert names[-3:] == ["all operators", "without the profiler", "roofline"]
        assert part.splitlines()[-1].endswith("times the roofline")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--context", "--context 1000: "),
        ("--prompt-length", "--prompt-length 1000: "),
    ],
)
def test_too_long(run: Run, folder: str, option: str, message: str) -> None:
    status, out, err = run("profile", folder, option, 1000)
    assert (status, out) == (2, "")
    assert message in err
