"""A machine that is simulated: the engine's own loop and scheduler, on a clock of their own.

What runs is what an engine runs: who is let in, whose prompt is read, in which chunks, beside which
steps. The decoder reads nothing, and moves the clock by what that would cost.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arrivals import Asked
from benchmarks.fleet.costs import Costs, Work
from benchmarks.fleet.pace import Pace
from gpt2onnx.runtime.decoder.protocol import NO_LOGITS, Ids, Read, Result
from gpt2onnx.runtime.engine.decisions import Admit
from gpt2onnx.runtime.engine.loop import Loop
from gpt2onnx.runtime.engine.prompt_turns import next_chunk
from gpt2onnx.runtime.engine.run import Run
from gpt2onnx.runtime.engine.schedule import Scheduler
from gpt2onnx.runtime.engine.ticket import Ticket
from gpt2onnx.serving.engine import MOST_TOKENS

_TOKEN: Ids = np.zeros(1, np.int64)


@dataclass
class _Row:
    length: int = 0


class _Decoder:
    """Reads nothing, and tells how long that takes."""

    def __init__(self, costs: Costs, pace: Pace | None) -> None:
        self.chunk, self._costs, self._pace = costs.chunk, costs, pace
        self.clock = 0.0

    def read(self, reads: Sequence[Read]) -> list[Result]:
        seconds = self._costs.seconds(Work.of(reads))
        self.clock = self._pace.after(self.clock, seconds) if self._pace else self.clock + seconds
        for each in reads:
            each.row.length += len(each.ids)
        return [Result(NO_LOGITS)] * len(reads)

    def gather(self, rows: Sequence[_Row]) -> None:
        """Rows have no places."""


class _Request:
    """A request's task: its prompt, then a token a turn."""

    rows_needed = 1

    def __init__(self, asked: Asked, number: int) -> None:
        self.asked, self.number = asked, number
        self.length = len(asked.prompt) + asked.new_tokens
        self.rows = [_Row()]
        self._unwritten = asked.new_tokens

    @property
    def done(self) -> bool:
        return not self._unwritten

    def plan(self) -> list[Read]:
        (row,) = self.rows
        if row.length:
            return [Read(row, _TOKEN)]
        return [Read(row, np.zeros(len(self.asked.prompt), np.int64), prompt=True)]

    def take(self, results: Sequence[Result], in_time: bool) -> list[int]:
        self._unwritten -= 1
        return [self.number]

    def close(self) -> None:
        """There is nothing to be given back."""


class Machine:
    """An engine with as many rows as its costs say, and room in its cache for all of them."""

    def __init__(self, costs: Costs, pace: Pace | None = None) -> None:
        """`pace` is that of a run; without one it is even."""
        self._decoder = _Decoder(costs, pace)
        self._scheduler = Scheduler(costs.rows, sys.maxsize, sys.maxsize)
        self._loop: Loop[int] = Loop(self._decoder, self._next_chunk, lambda: self.clock)  # type: ignore[arg-type]
        self._most_tokens = min(costs.chunk, MOST_TOKENS)
        self._waiting: dict[Ticket, _Request] = {}
        self._running: dict[Run[int], Ticket] = {}
        self._turns = 0

    @property
    def clock(self) -> float:
        return self._decoder.clock

    @property
    def load(self) -> int:
        """How many requests it has."""
        return len(self._waiting) + len(self._running)

    def add(self, asked: Asked, number: int, now: float) -> None:
        """A request comes."""
        request = _Request(asked, number)
        ticket = Ticket(request.rows_needed, request.length)
        self._scheduler.add(ticket, now)
        self._waiting[ticket] = request

    def advance(self, until: float, first: list[float]) -> None:
        """Take turns until a moment; the last one may end behind it. `first` are told tokens."""
        while self.clock < until and self.load:
            self._turn(first)
        if until < np.inf:
            self._decoder.clock = max(self.clock, until)

    def _turn(self, first: list[float]) -> None:
        for decision in self._scheduler.decide(self.clock):
            assert isinstance(decision, Admit)  # all are of one priority, and wait as they must
            run = self._loop.add(self._waiting.pop(decision.ticket))
            self._running[run] = decision.ticket
        for told in self._loop.turn(self._most_tokens):
            for number in told.events:
                first[number] = first[number] or self.clock
            if told.run.task.done:
                self._scheduler.retire(self._running.pop(told.run))
        self._turns += 1

    def _next_chunk(self, runs: Any) -> Run[int]:
        run: Run[int] = next_chunk(runs, self._turns)
        return run


class Outcome(NamedTuple):
    """Seconds to each first token, and to the end of all."""

    first: list[float]
    seconds: float


def simulate(
    asked: Sequence[Asked],
    machines: int,
    costs: Costs,
    pace: Pace | None = None,
    taken: Sequence[float] = (),
) -> Outcome:
    """What becomes of requests, each at the machine that has least when it comes.

    `taken` are the seconds that each needs to come there, where they aren't all alike.
    """
    first = [0.0] * len(asked)
    fleet = [Machine(costs, pace) for _ in range(machines)]
    for number, each in enumerate(asked):
        ready = each.arrival + (taken[number] if taken else costs.submit)
        for machine in fleet:
            machine.advance(ready, first)
        min(fleet, key=lambda machine: machine.load).add(each, number, ready)
    for machine in fleet:
        machine.advance(np.inf, first)
    seconds = [moment - each.arrival for moment, each in zip(first, asked, strict=True)]
    return Outcome(seconds, max(machine.clock for machine in fleet))
