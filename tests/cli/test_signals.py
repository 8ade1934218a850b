"""What signals do within a process; tests/cli/test_process.py has them from outside."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt2onnx import cli
from gpt2onnx.cli import signals
from gpt2onnx.cli.signals import ENDING, ending_signals
from gpt2onnx.staging import stage


@pytest.fixture(autouse=True)
def _as_a_terminal_starts_it() -> Iterator[None]:
    """Python's own handlers, also where nohup or a shell's background has a signal ignored."""
    plain = dict.fromkeys(ENDING, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    before = {each: signal.signal(each, handler) for each, handler in plain.items()}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture
def died(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The signals that would have ended the process."""
    died: list[int] = []
    monkeypatch.setattr(signals, "_die_of", died.append)
    return died


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_is_an_exception(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as raised, ending_signals() as ending:
        signal.raise_signal(number)
    assert ending.number == number
    assert signal.getsignal(number) == before
    if number != signal.SIGINT:
        assert raised.value.code == 128 + number


def end_twice() -> None:
    with ending_signals():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)


def test_a_second_one_at_once_is_the_same(died: list[int]) -> None:
    with pytest.raises(KeyboardInterrupt):
        end_twice()
    assert died == []


def test_a_second_one_later_is_meant(died: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "TWICE", -1.0)
    with pytest.raises(KeyboardInterrupt):
        end_twice()
    assert died == [signal.SIGTERM]


@pytest.fixture
def interrupted_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "interrupted_while_imported"
    (tmp_path / f"{name}.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_within_an_import_it_ends_the_process(died: list[int], interrupted_module: str) -> None:
    with pytest.raises(KeyboardInterrupt), ending_signals():
        __import__(interrupted_module)
    assert died == [signal.SIGINT]


def test_within_an_import_what_is_temporary_goes_first(
    interrupted_module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[bool] = []
    monkeypatch.setattr(signals, "_die_of", lambda number: left.append(made.exists()))
    with ending_signals(), stage(tmp_path / "out") as made:
        (made / "new").mkdir()
        with pytest.raises(KeyboardInterrupt):
            __import__(interrupted_module)
    assert left == [False]


def test_signals_are_as_before_behind_the_block() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_signals():
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # nohup's
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which the process would have ended at once."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    return ended


def test_the_first_process_of_a_container_ends_too(
    ended: list[int], interrupted_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system takes no signal there that has no handler, and its own handling does nothing."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert cli.main([]) == 2  # a call within a process of somebody else's leaves it as it is
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    monkeypatch.setattr(sys, "argv", ["gpt2onnx", "--version"])
    with pytest.raises(SystemExit):
        sys.exit(cli.main())
    for number in ENDING:
        signal.raise_signal(number)
    assert ended == [128 + number for number in ENDING]


def test_a_signal_that_kills_nobody_ends_the_process(
    ended: list[int], interrupted_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As within an import of a container's first process."""
    really = signal.raise_signal

    def unless_deadly(number: int) -> None:
        if signal.getsignal(number) != signal.SIG_DFL:
            really(number)

    monkeypatch.setattr(signal, "raise_signal", unless_deadly)
    with pytest.raises(KeyboardInterrupt), ending_signals():
        __import__(interrupted_module)
    assert ended == [128 + signal.SIGINT]
