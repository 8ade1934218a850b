from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx.cli.output import bar
from tests.cli.conftest import Run

TEXT = "some text, é"
AGAINST = ["kl_mean", "kl_p99", "top1_agreement", "max_logit_difference"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_a_reference_folder(run: Run, folder: str, text: Path) -> None:
    _, out, _ = run("eval", folder, "--text", text, "--reference", folder, "--json")
    assert [json.loads(out)[name] for name in AGAINST] == [0, 0, 1, 0]


def test_standard_input_and_options(
    run: Run, folder: str, text: Path, standard_input: Callable[[bytes], None]
) -> None:
    standard_input(TEXT.encode() * 20)
    options = ("--stride", 9, "--max-tokens", 100, "--no-bos")
    status, out, _ = run("eval", folder, "--text", "-", "--json", *options)
    assert (status, json.loads(out)["tokens"]) == (0, 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--stride", 0), "--stride 0: "),
        (("--max-tokens", -1), "--max-tokens -1: "),
    ],
)
def test_mistakes(
    run: Run, folder: str, text: Path, options: tuple[Any, ...], message: str
) -> None:
    status, out, err = run("eval", folder, "--text", text, *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_texts_that_are_none(run: Run, folder: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    for name, said in (("empty", "empty"), ("bytes", "bytes: "), ("nothing", "nothing: ")):
        status, out, err = run("eval", folder, "--text", tmp_path / name)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert said in err


def test_a_missing_folder_is_found_before_anything_runs(run: Run, folder: str, text: Path) -> None:
    status, out, err = run("eval", folder, "nothing", "--text", text, "--json")
    assert (status, out) == (2, "")
    assert "nothing: doesn't exist" in err


def test_a_bar_on_a_terminal(
    run: Run, folder: str, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bar, "DELAY", 0)
    monkeypatch.setattr(bar, "PAUSE", 0)
    assert run("eval", folder, "--text", text)[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    err = run("eval", folder, "--text", text)[2]
    *_, state, blank, end = err.split("\r")
    assert state.startswith(f"{folder} [{'#' * bar.WIDTH}] 13 of 13")
    assert (blank, end) == (" " * len(state), "")
