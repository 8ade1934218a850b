"""Progress bars on standard error, where that is a terminal."""

from __future__ import annotations

import sys
import time

from gpt2onnx.cli.streams import is_terminal

WIDTH = 24
DELAY, PAUSE = 0.5, 0.1  # seconds: before it first shows, and between two of its states


class Bar:
    """Shows how much of something is done. Leaving the block takes it away, whatever happened."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._started = self._shown = time.monotonic()
        self._length = 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._length:
            print("\r" + " " * self._length, end="\r", file=sys.stderr, flush=True)

    def __call__(self, done: int, total: int, note: str = "", before: int = 0) -> None:
        """`before` were done when it began; `note` is told, too."""
        now = time.monotonic()
        if now - self._started < DELAY or now - self._shown < PAUSE or not is_terminal(sys.stderr):
            return
        self._shown = now
        filled = "#" * (WIDTH * done // total)
        line = f"{self._label} [{filled:-<{WIDTH}}] {done:,} of {total:,}"
        if done > before:
            left = (now - self._started) / (done - before) * (total - done)
            line += f", {left:.0f} s left"
        line += note
        print("\r" + line.ljust(self._length), end="", file=sys.stderr, flush=True)
        self._length = max(self._length, len(line))


class Bars:
    """A bar for each part of the work, one after the other."""

    def __init__(self) -> None:
        self._label, self._bar = "", Bar("")

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)

    def __call__(self, label: str, done: int, total: int, note: str = "", before: int = 0) -> None:
        if label != self._label:
            self._bar.__exit__()
            self._label, self._bar = label, Bar(label)
        self._bar(done, total, note, before)
