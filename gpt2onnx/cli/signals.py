"""SIGINT, SIGTERM and SIGHUP: close what is open, remove temporary files, exit.

Before a command runs there is nothing to close, and each of them ends the process at once, also the
first one of a container, for which the system's own handling of them does nothing. While it runs
they are exceptions: KeyboardInterrupt, and SystemExit with the status that a shell says of
them. Within an import an exception would be lost, or taken for a package that can't be imported; so
there they remove what is temporary, and end the process at once.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from gpt2onnx.staging import remove_open

# Windows has no SIGHUP.
ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
# A terminal or a supervisor may say it twice. Who says it again after this many seconds means it.
TWICE = 1.0


def end_at_once(number: int, frame: FrameType | None = None) -> None:
    """End the process with the status that a shell says of one that the signal ended."""
    os._exit(128 + number)


# What they do before a command runs: Python's own, and what `main` has them do.
DEFAULT = (signal.SIG_DFL, signal.default_int_handler, end_at_once)


@contextmanager
def ending_signals() -> Iterator[Ending]:
    """Within the block the signals are exceptions; says which one has come.

    One that is ignored, as nohup has SIGHUP, stays ignored; one with a handler keeps it.
    """
    ending = Ending()
    before = {each: signal.getsignal(each) for each in ENDING if _is_main_thread()}
    heeded = {each: handler for each, handler in before.items() if handler in DEFAULT}
    for each in heeded:
        signal.signal(each, ending)
    try:
        yield ending
    finally:
        for each, handler in heeded.items():
            signal.signal(each, handler)


class Ending:
    """What the signals do. `number` is that of the first one, 0 before it came."""

    def __init__(self) -> None:
        self.number = 0
        self._since = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.number:  # the end isn't to be cut short
            if time.monotonic() - self._since > TWICE:
                _die_of(number)
            return
        self.number, self._since = number, time.monotonic()
        if _imports(frame):
            remove_open()
            _die_of(number)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def exit_without_destructors(status: int) -> None:
    """Have Python's end be the process's end, with that status.

    Libraries in C++ that were interrupted at work may abort when their own ends are run then:
    'terminate called without an active exception', from a thread that was being started.
    """
    atexit.register(_exit_now, status)


def _exit_now(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # nobody is there to be told
            stream.flush()
    os._exit(status)


def _die_of(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    end_at_once(number)  # the first process of a container doesn't die of it


def _imports(frame: FrameType | None) -> bool:
    """Whether Python is importing a module, somewhere above."""
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
