"""Whatever is called, what comes back is a status and at most a line of what is wrong."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2onnx import cli

STATUSES = {0, 1, 2, 130, 141}
INTEGERS = st.one_of(
    st.integers(-2, 9).map(str),
    st.sampled_from(
        [
            *("64", "65", "256", "257", "2147483647", "-2147483648", "9223372036854775808"),
            *(str(10**30), str(-(10**400)), "9" * 5000, "1.5", "0x1", "\uff11", "", " 1", "1_0"),
        ]
    ),
)
NUMBERS = st.one_of(
    st.floats(0, 2).map(repr),
    st.sampled_from(
        ["0", "-0.0", "1", "nan", "inf", "-inf", "1e400", "1e-320", "1e38", "-1", "9" * 400, "x"]
    ),
)
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            *("", "-", "--", "-1", "a", "\udcff", "\ufeffa", "\x1b[31m", "a\nb", "x" * 5000, "{}"),
            *(
                "demo",
                "auto",
                "cpu",
                "fp32",
                "1,2",
                "5=-3",
                "5|7,9;8",
                "top_k,temperature",
                "never",
            ),
        ]
    ),
)
# What takes minutes or gigabytes as it should, and has tests of its own.
LEFT_OUT = {"help", "version", "html", "out", "verify", "stream", "clear", "threads"}
NOTICE = "gpt2onnx: exporting the bundled model, once\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, folder: str) -> Iterator[Path]:
    """A working folder with one of everything that a path may lead to."""
    place = tmp_path_factory.mktemp("fuzz")
    (place / "text").write_text("some text\n", encoding="utf-8")
    (place / "latin1").write_bytes(b"caf\xe9")
    (place / "utf16").write_text("text", encoding="utf-16")
    (place / "nothing").touch()
    (place / "empty").mkdir()
    (place / "model").symlink_to(folder)
    (place / "loop").symlink_to("loop")
    if hasattr(os, "mkfifo"):
        os.mkfifo(place / "pipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield place


PATHS = st.sampled_from(
    [
        *("text", "latin1", "utf16", "nothing", "empty", "model", "loop", "pipe", "none"),
        *("text/below", "/dev/null", "/dev/zero", ".", "..", "/", "", "~", "n" * 300, "n/" * 3000),
    ]
)


def values(action: argparse.Action) -> st.SearchStrategy[list[str]]:
    """What may stand behind an option."""
    if action.nargs == 0:
        return st.just([])
    kinds = {int: INTEGERS, float: NUMBERS}
    mostly = kinds.get(action.type, st.one_of(TEXTS, PATHS))
    return st.one_of(mostly, mostly, mostly, st.one_of(INTEGERS, NUMBERS, TEXTS, PATHS)).map(
        lambda value: [value]
    )


@st.composite
def calls(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from([*cli.COMMANDS, "none"]))
    if name == "none":
        return draw(st.lists(TEXTS, max_size=3))
    actions = [each for each in cli.command(name).parser()._actions if each.dest not in LEFT_OUT]
    options = [each for each in actions if each.option_strings]
    call = [name]
    for action in actions:
        if not action.option_strings and draw(st.integers(0, 9)):
            call += [draw(st.one_of(st.just("model"), PATHS, TEXTS))]
    for action in draw(st.lists(st.sampled_from(options), max_size=4)) if options else []:
        call += [draw(st.sampled_from(action.option_strings)), *draw(values(action))]
    return call + ends(name, draw)


def ends(name: str, draw: st.DrawFn) -> list[str]:
    """What keeps a call that is right short: of an option that is given twice the last counts."""
    if name in ("generate", "trace"):
        return [*draw(st.sampled_from([[], ["--model", "model"]])), "--max-time", "0.05"]
    if name == "profile":
        return ["--steps", "2"]
    if name == "serve":  # which would never end
        return ["--port", "99999"]
    return {"export": ["--no-verify"], "compare": ["--resume"]}.get(name, [])


def check(call: list[str]) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.stdin = io.TextIOWrapper(io.BytesIO(b"from standard input\n"))
        status = cli.main(call)
    told = err.getvalue().replace(NOTICE, "")
    assert status in STATUSES
    assert told.count("\n") <= 1 or "--stats" in call, told
    assert len(told) < 2500
    if status in (1, 2):
        assert told.startswith("gpt2onnx: error: ") or call[0] == "doctor", told
    assert "Traceback" not in told


def examples(count: int) -> settings:
    ignored = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=count, deadline=None, suppress_health_check=ignored)


@pytest.fixture(autouse=True)
def _standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", sys.stdin)


@examples(300)
@given(call=calls())
def test_any_call(call: list[str], place: Path) -> None:
    check(call)


@pytest.mark.parametrize(
    "call",
    [
        ["batch", "loop", "answers.jsonl"],
        ["batch", "loop", "answers.jsonl", "--model", "loop"],
        ["export", "loop", "out"],
        ["export", "model", "loop"],
        ["generate", "--model", "loop", "a text"],
        ["inspect", "loop"],
        ["serve", "loop", "--port", "99999"],
    ],
)
def test_links_in_a_circle(call: list[str], place: Path) -> None:
    check(call)


@pytest.mark.slow
@examples(10_000)
@given(call=calls())
def test_any_of_many_calls(call: list[str], place: Path) -> None:
    check(call)
