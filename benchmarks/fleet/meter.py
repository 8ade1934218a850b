"""Times an engine's turns, from the decoder: what each one reads, and when the next one begins.

So a turn's seconds are all of it: the run, choosing tokens, telling them, waiting for the
interpreter's lock. Knows the decoder's seam.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.fleet.costs import Turn, Work
from gpt2onnx.runtime.decoder.protocol import Decoder, Read, Result


class Meter:
    """A decoder that notes what it reads. Whatever it isn't asked here, the other answers."""

    def __init__(self, decoder: Decoder[Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._decoder, self._clock = decoder, clock
        self._rows = 0  # in use
        self._last: tuple[Work, float] | None = None  # and when it began
        self.turns: list[Turn] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def new_row(self) -> Any:
        self._rows += 1
        return self._decoder.new_row()

    def free(self, row: Any) -> None:
        self._rows -= 1
        if not self._rows:  # the engine may sleep now
            self._end(self._clock())
            self._last = None
        self._decoder.free(row)

    def read(self, reads: Sequence[Read]) -> list[Result]:
        now = self._clock()
        self._end(now)
        self._last = Work.of(reads), now
        return self._decoder.read(reads)

    def _end(self, now: float) -> None:
        if self._last:
            work, began = self._last
            self.turns.append(Turn(work, began, now - began))
