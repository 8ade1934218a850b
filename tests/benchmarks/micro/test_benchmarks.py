"""Each small benchmark runs, and finds the answers that it should; times are whatever they are."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import micro

ROOT = Path(__file__).parents[3]


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a benchmark by its name, with arguments, and gives what it says at its end."""

    def measured(name: str, *arguments: str | Path) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        importlib.import_module(f"benchmarks.micro.{name}").main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    return measured


def test_the_package_names_every_benchmark() -> None:
    listed = [line.split()[0] for line in (micro.__doc__ or "").split("\n\n")[1].splitlines()]
    files = {path.stem for path in Path(micro.__file__).parent.glob("[!_]*.py")}
    assert set(listed) == files - {"driver", "memory"}


def test_samplers(run: Run) -> None:
    found = run("samplers", "--vocab", "500", "--rounds", "1")
    rows = {row["sampler"]: row for row in found["rows"]}
    assert rows["mirostat 2"]["theirs ms"] is None
    for name in ("top_p", "typical_p", "repetition_penalty", "chain"):
        assert rows[name]["agreement"].startswith("same ")


def test_beams(run: Run, models: Callable[..., Path], checkpoint: Path) -> None:
    found = run(
        *("beams", models("fp32"), "--rounds", "1", "--context", "50"),
        *("--checkpoint", checkpoint),
    )
    plain, beams = found["rows"]
    assert (plain["way"], beams["way"]) == ("plain", "beams")
    assert beams["as transformers"].startswith("same tokens")


def test_speculation(run: Run) -> None:
    found = run("speculation", "--rounds", "1", "--new", "8")
    assert {row["way"] for row in found["rows"]} == {"plain", "lookup", "draft"}
    assert {row["prompt"] for row in found["rows"]} > {"plain", "repeating"}
    for row in found["rows"]:
        assert row["of"] == 8
        if row["way"] == "plain":
            assert row["equal"] == 8


def test_prefixes(run: Run) -> None:
    found = run(
        *("prefixes", "demo", "--shared", "130", "--requests", "3", "--rounds", "1"),
        *("--new", "2"),
    )
    assert [row["way"] for row in found["rows"]] == [
        *("all, without", "all, with", "one, without", "one, with")
    ]
    assert all(row["equal"] == row["requests"] for row in found["rows"])


def test_sampling(run: Run) -> None:
    found = run(
        *("sampling", "demo", "--rows", "2", "--context", "8", "--new", "3", "--rounds", "1")
    )
    assert {row["way"] for row in found["rows"]} > {"greedy", "full chain"}
    assert all(row["read ms"] > 0 for row in found["rows"])


@pytest.mark.slow
def test_exports(run: Run, checkpoint: Path) -> None:
    found = run("exports", checkpoint, "--precisions", "fp32,int8:int8", "--rounds", "1")
    fp32, int8 = found["rows"]
    assert (fp32["mean KL"], fp32["top-1"]) == (0, 1)
    assert 0 < int8["mean KL"] < 0.1
    assert int8["size MB"] < fp32["size MB"]


@pytest.mark.slow
def test_start(run: Run, wide_models: Callable[..., Path]) -> None:
    found = run("start", wide_models("fp32"), "--rounds", "1", "--against", ROOT)
    assert [row["way"] for row in found["rows"]] == ["with the cache", "without", str(ROOT)]
    assert all(row["same text"] for row in found["rows"])
    assert all(row["Anonymous MB"] <= row["Rss MB"] for row in found["rows"])


def test_it_is_called_as_its_help_says() -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "benchmarks.micro.samplers", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0
    assert "--rounds" in asked.stdout
