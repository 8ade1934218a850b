"""The one loop: what all tasks plan is read together, and each takes what came of its own.

A turn is: plan, read, take. Lone tokens and drafts of all tasks are read in every turn; prompts
chunk by chunk, as many chunks as the turn allows. A task takes its results once all of its reads
are done. Knows tasks and the decoder's seam; knows no text, no sampling and no requests.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from gpt2onnx.runtime.decoder.protocol import Decoder, Read, Result, chunks, joined
from gpt2onnx.runtime.decoding.task import Task

Event = TypeVar("Event")

# Which of the runs with a chunk of a prompt left reads it next.
NextChunk = Callable[[Sequence["Run[Any]"]], "Run[Any]"]


@dataclass(eq=False)
class Run(Generic[Event]):
    """A task in the loop, what it reads now, and what came of that so far."""

    task: Task[Event]
    deadline: float = np.inf  # by time.monotonic
    reads: list[Read] = field(default_factory=list)
    results: list[list[Result]] = field(default_factory=list)  # of each read, chunk by chunk
    unread: deque[tuple[int, Read]] = field(default_factory=deque)  # chunks of prompts, by read
    tokens_read: int = 0

    def plan(self, chunk: int) -> None:
        """Ask the task what it reads, unless that is still being read."""
        if self.reads:
            return
        self.reads = self.task.plan()
        self.results = [[] for _ in self.reads]
        for place, read in enumerate(self.reads):
            if read.prompt and len(read.ids) > 1:
                self.unread.extend((place, part) for part in chunks(read, chunk))

    @property
    def steps(self) -> list[int]:
        """The reads that every turn does: lone tokens and drafts; none once they are done."""
        return [
            place
            for place, read in enumerate(self.reads)
            if not self.results[place] and not (read.prompt and len(read.ids) > 1)
        ]

    @property
    def unread_tokens(self) -> int:
        """How many tokens of prompts are left."""
        return sum(len(part.ids) for _, part in self.unread)

    def take(self, now: float) -> list[Event]:
        """Hand the task its results."""
        results = [joined(parts) for parts in self.results]
        self.tokens_read += sum(len(read.ids) for read in self.reads)
        self.reads = []
        return self.task.take(results, now < self.deadline)


class Loop(Generic[Event]):
    """Tasks on one decoder. For one thread."""

    def __init__(
        self,
        decoder: Decoder[Any],
        next_chunk: NextChunk = lambda runs: runs[0],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.decoder = decoder
        self.runs: list[Run[Event]] = []
        self._next_chunk, self._clock = next_chunk, clock

    def add(self, task: Task[Event], deadline: float = np.inf) -> Run[Event]:
        """Let a task in. It ends early where the clock has reached `deadline`."""
        self.runs.append(Run(task, deadline))
        return self.runs[-1]

    def remove(self, run: Run[Event]) -> None:
        """Let a task go at whatever point, and give back its rows."""
        if run in self.runs:
            self.runs.remove(run)
            run.task.close()

    def turn(self, most_chunks: float = np.inf) -> list[tuple[Run[Event], list[Event]]]:
        """Read once for every task: what each that took its results has to tell, in their order.

        At most `most_chunks` chunks of prompts are read. Tasks that are done have left.
        """
        for run in self.runs:
            run.plan(self.decoder.chunk)
        while most_chunks > 0 and (reading := [run for run in self.runs if run.unread]):
            self._read_chunk(self._next_chunk(reading))
            most_chunks -= 1
        self._read_steps()
        now = self._clock()
        told = [(run, run.take(now)) for run in self.runs if all(run.results)]
        for run, _ in told:
            if run.task.done:
                self.remove(run)
        return told

    def close(self) -> None:
        """Let all tasks go."""
        while self.runs:
            self.remove(self.runs[-1])

    def _read_steps(self) -> None:
        """What is read every turn, in one call."""
        places = [(run, place) for run in self.runs for place in run.steps]
        if places:
            results = self.decoder.read([run.reads[place] for run, place in places])
            for (run, place), result in zip(places, results, strict=True):
                run.results[place].append(result)

    def _read_chunk(self, run: Run[Event]) -> None:
        place, part = run.unread.popleft()
        (result,) = self.decoder.read([part])
        run.results[place].append(result)


def run(
    decoder: Decoder[Any], tasks: Iterable[Task[Event]], max_time: float | None = None
) -> Generator[Event, None, None]:
    """Advance all tasks until each is done: what they tell, turn by turn.

    `max_time` is in seconds. Closing the iterator frees all rows that are still in use.
    """
    loop: Loop[Event] = Loop(decoder, clock=time.monotonic)
    deadline = np.inf if max_time is None else time.monotonic() + max_time
    runs = [loop.add(task, deadline) for task in tasks]
    try:
        _reserve(decoder, [each.task for each in runs])
        while loop.runs:
            for _, events in loop.turn():
                yield from events
    finally:
        loop.close()


def _reserve(decoder: Decoder[Any], tasks: Sequence[Task[Any]]) -> None:
    """Make room for all rows at once: growing one by one would copy."""
    if tasks:
        longest = max(task.length for task in tasks)
        decoder.reserve(sum(task.rows_needed for task in tasks), min(longest, decoder.n_positions))
