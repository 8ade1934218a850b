"""Places for requests that are being understood: no more of them than the engines will take.

A full queue refuses before a body is read, and one whose last places are spoken for before a body
is understood. Of the event loop's thread alone; knows no request.
"""

from __future__ import annotations

from gpt2onnx.errors import QueueFullError
from gpt2onnx.server.served import ServedModels


class Places:
    """Those of all models together: whose a request is, its body says."""

    def __init__(self, models: ServedModels) -> None:
        self._models = models
        self.taken = 0

    def require(self) -> None:
        """Raises QueueFullError where none is left."""
        engines = [each.engine for each in self._models]
        room = sum(engine.room for engine in engines)
        if room > self.taken:
            return
        queued = sum(engine.stats().waiting for engine in engines)
        waiting = self.taken + queued
        raise QueueFullError(
            f"{waiting:,} requests are waiting, as many as may: try again later",
            found=waiting,
            expected=queued + room,
        )

    def take(self) -> Place:
        """One of them, until its block ends or it is given back. Raises QueueFullError."""
        self.require()
        return Place(self)


class Place:
    """One that is taken."""

    def __init__(self, places: Places) -> None:
        self._places: Places | None = places
        places.taken += 1

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *raised: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Leave it to others. Giving it back again does nothing."""
        if self._places:
            self._places.taken -= 1
        self._places = None
