"""What a turn of an engine costs, as a function of what it reads; found from turns that were timed.

Knows reads; knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FITS = 3  # of weights, and of what they make of the costs


class Reading(Protocol):
    """A read, before it is done."""

    @property
    def row(self) -> Any: ...
    @property
    def ids(self) -> Sequence[int] | NDArray[np.int64]: ...


class Work(NamedTuple):
    """What a turn reads: lone tokens, parts of prompts, and the positions that each attends to."""

    turns: int = 0
    rows: int = 0
    parts: int = 0
    tokens: int = 0  # of those parts
    row_positions: int = 0
    token_positions: int = 0

    @classmethod
    def of(cls, reads: Sequence[Reading]) -> Work:
        """That of one turn."""
        sizes = [(each.row.length, len(each.ids)) for each in reads]
        lone = [length + 1 for length, count in sizes if count == 1]
        parts = [(length, count) for length, count in sizes if count > 1]
        return cls(
            turns=1,
            rows=len(lone),
            parts=len(parts),
            tokens=sum(count for _, count in parts),
            row_positions=sum(lone),
            token_positions=sum(n * length + n * (n + 1) // 2 for length, n in parts),
        )


class Turn(NamedTuple):
    """A turn that was timed: what it read, when it began, and until the next one."""

    work: Work
    began: float
    seconds: float


class Costs(NamedTuple):
    """Seconds that each piece of work costs, and what a machine has.

    `submit` are the seconds before a request that has come may wait.
    """

    turn: float
    row: float
    part: float = 0.0
    token: float = 0.0
    row_position: float = 0.0
    token_position: float = 0.0
    submit: float = 0.0
    rows: int = 16
    chunk: int = 256

    def seconds(self, work: Work) -> float:
        """What a turn takes."""
        return float(np.dot(self[: len(work)], work))

    def tokens_per_second(self, context: int) -> float:
        """Of all rows decoding, each behind as many tokens."""
        work = Work(1, self.rows, row_positions=self.rows * context)
        return self.rows / self.seconds(work)


def fitted(turns: Sequence[Turn], submit: float, rows: int, chunk: int) -> Costs:
    """The costs, none below 0, by least squares over turns and their seconds.

    A turn that takes longer varies more, so it weighs less, by its seconds: all turns together
    take what they took.
    """
    work = np.array([each.work for each in turns], np.float64)  # [n, kinds]
    seconds = np.array([each.seconds for each in turns])
    told = seconds
    for _ in range(FITS):
        weights = 1 / np.sqrt(np.maximum(told, seconds.mean() / 100))
        found = _least_squares(work * weights[:, None], seconds * weights)
        told = work @ found
    return Costs(*found.tolist(), submit=submit, rows=rows, chunk=chunk)


def _least_squares(
    work: NDArray[np.float64], seconds: NDArray[np.float64]
) -> NDArray[np.float64]:  # [n, kinds], [n] -> [kinds]
    """What is found below 0 is left out, the kind that comes to least first."""
    found, left = np.zeros(work.shape[1]), list(range(work.shape[1]))
    while left:
        costs = np.linalg.lstsq(work[:, left], seconds, rcond=None)[0]
        share = costs * work[:, left].sum(axis=0)
        if share.min() >= 0:
            found[left] = costs
            return found
        del left[int(share.argmin())]
    return found
