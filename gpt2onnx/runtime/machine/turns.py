"""Lets several threads take turns at an object's methods, one call at a time.

A turn is one method from its beginning to its end, so that whoever pauses between two of them, as
the reader of a stream may, keeps nobody waiting, and no function of a caller's runs in one. Knows
threads; knows nothing of what the methods do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Turns:
    """The turns of one object."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._waiting: deque[Callable[[], object]] = deque()

    def soon(self, work: Callable[[], object]) -> None:
        """Do some work in a turn of its own: now, or else right after the one that is going on.

        Never waits. Python may close a forgotten iterator at any place of any thread, also in the
        midst of a turn of that very thread.
        """
        self._waiting.append(work)
        self.catch_up()

    def catch_up(self) -> None:
        """Do what came in the meantime."""
        while self._waiting and self.lock.acquire(blocking=False):
            try:
                while self._waiting:
                    self._waiting.popleft()()
            finally:
                self.lock.release()


class TakesTurns(Protocol):
    """What has methods that are called in turn."""

    @property
    def turns(self) -> Turns: ...


Self = TypeVar("Self", bound=TakesTurns)


def in_turn(method: Callable[Concatenate[Self, P], R]) -> Callable[Concatenate[Self, P], R]:
    """The same method, which waits for its turn. It may call none that does so, too."""

    @wraps(method)
    def called(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with self.turns.lock:
                return method(self, *args, **kwargs)
        finally:
            self.turns.catch_up()

    return called
