"""The command beside PyTorch: tests/smaller/distill has what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2onnx.cli.commands.distill import OPTIONS
from gpt2onnx.demo import CHECKPOINT
from tests.cli.conftest import Run

DISTILL = "gpt2onnx.smaller.distill.distill.distill"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text("some text\n")
    return path


def test_options_reach_the_library(run: Run, monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def distill(*args: Any, **kwargs: Any) -> str:
        calls.append((args, kwargs))
        return "made"

    monkeypatch.setattr(DISTILL, distill)
    assert run("distill", "demo", "out", "--layers", 2) == (0, "made\n", "")
    texts = ("--text", text, text, "--held-out", text)
    numbers = ("--layers", 1, "--width", 8, "--hours", 0.5, "--tokens", 9, "--window", 3)
    more = ("--learning-rate", 0.1, "--text-share", 0, "--seed", 4, "--device", "cpu")
    run("distill", "a/b", "out", *texts, *numbers, *more, "--greedy", "--resume", "--no-time")
    (teacher, given), (other, also_given) = calls
    assert (teacher, other) == ((CHECKPOINT, "out"), ("a/b", "out"))
    assert given.keys() == also_given.keys() == {*OPTIONS, "texts", "held_out", "progress"}
    assert {name: given[name] for name in OPTIONS} == {
        "layers": 2,
        "width": None,
        "samples": None,
        "greedy": False,
        "hours": None,
        "steps": None,
        "tokens": 4096,
        "window": 256,
        "learning_rate": 1e-3,
        "text_share": 0.1,
        "seed": 0,
        "device": "auto",
        "resume": False,
        "time_it": True,
        "revision": None,
    }
    assert also_given["texts"] == ["some text\n"] * 2
    assert also_given["held_out"] == ["some text\n"]
    assert {name: also_given[name] for name in OPTIONS} == {
        "layers": 1,
        "width": 8,
        "samples": None,
        "greedy": True,
        "hours": 0.5,
        "steps": None,
        "tokens": 9,
        "window": 3,
        "learning_rate": 0.1,
        "text_share": 0.0,
        "seed": 4,
        "device": "cpu",
        "resume": True,
        "time_it": False,
        "revision": None,
    }


def test_layers_have_to_be_given(run: Run) -> None:
    status, _, err = run("distill", "demo", "out")
    assert status == 2
    assert "--layers" in err
