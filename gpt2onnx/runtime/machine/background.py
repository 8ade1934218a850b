"""Runs one piece of work in a background thread. Knows nothing of the work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """A function's result, or what it raises, while its caller does something else.

    For work that lets go of Python's lock, as opening a session does; concurrent.futures has more,
    and takes longer to import than this saves.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait(self) -> None:
        """Return when the work is done, well or not."""
        self._thread.join()

    def result(self) -> T:
        """What the work gave. Raises what it raised."""
        self.wait()
        if self._error:
            raise self._error
        return self._result

    def _run(self) -> None:
        self._error: BaseException | None = None
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
