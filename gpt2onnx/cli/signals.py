"""SIGTERM and SIGHUP as ends like Ctrl-C: what is open is closed, what is temporary is removed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# Windows has no SIGHUP.
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def ending_signals() -> Iterator[None]:
    """Within the block these signals raise SystemExit, with the status that a shell says of them.

    One that is ignored, as nohup has it, stays ignored.
    """
    heeded = [each for each in ENDING if signal.getsignal(each) == signal.SIG_DFL]
    for each in heeded:
        signal.signal(each, _end)
    try:
        yield
    finally:
        for each in heeded:
            signal.signal(each, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    for each in ENDING:  # a terminal that closes may say so twice: the end isn't to be cut short
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)
