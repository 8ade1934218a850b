"""The one loop: what all tasks plan is read together, and each takes what came of its own.

A turn is: plan, read, draw, take. Lone tokens and drafts of all tasks are read in every turn;
prompts chunk by chunk, as many tokens as the turn allows. A task takes its results once all of its
reads are done, and plain ones draw from them together. Knows tasks and the decoder's seam; knows no
text, no sampling and no requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from gpt2onnx.runtime.decoder.protocol import LAST, Decoder, Ids, Read
from gpt2onnx.runtime.decoding.plain import draw_together
from gpt2onnx.runtime.decoding.task import Task
from gpt2onnx.runtime.engine.run import Run

Event = TypeVar("Event")


class Prefixes(Protocol):
    """What is known of prompts that were read before: PrefixCache has it."""

    def restore(self, row: Any, ids: Ids, tenant: str | None) -> int:
        """Write what is known of a prompt [n] to an empty row; how many tokens that is."""

    def keep(self, row: Any, ids: Ids, tenant: str | None) -> None:
        """Note a prompt [n] that was read into a row."""


class Told(NamedTuple, Generic[Event]):
    """What came of a task's turn: what it tells, or why it failed."""

    run: Run[Event]
    events: list[Event]
    error: Exception | None = None


def in_order(runs: Sequence[Run[Any]]) -> Run[Any]:
    """Prompts one after the other."""
    return runs[0]


class Loop(Generic[Event]):
    """Tasks on one decoder. For one thread."""

    def __init__(
        self,
        decoder: Decoder[Any],
        next_chunk: Callable[[Sequence[Run[Any]]], Run[Any]] = in_order,
        clock: Callable[[], float] = time.monotonic,
        prefixes: Prefixes | None = None,
    ) -> None:
        """`next_chunk` says which of the runs with a part of a prompt left reads it next."""
        self.decoder = decoder
        self.runs: list[Run[Event]] = []
        self.clock = clock
        self._next_chunk, self._prefixes = next_chunk, prefixes
        self._numbers = 0

    def add(
        self, task: Task[Event], deadline: float = np.inf, tenant: str | None = None
    ) -> Run[Event]:
        """Let a task in. It ends early where the clock has reached `deadline`."""
        self._numbers += 1
        self.runs.append(Run(task, self._numbers, deadline, tenant))
        return self.runs[-1]

    def remove(self, run: Run[Event]) -> None:
        """Let a task go at whatever point, and give back its rows."""
        if run in self.runs:
            self.runs.remove(run)
        run.task.close()

    def pause(self, run: Run[Event]) -> None:
        """Leave a task out, with its rows, until it is resumed."""
        self.runs.remove(run)

    def resume(self, run: Run[Event]) -> None:
        """Let a paused task go on."""
        self.runs.append(run)

    def turn(self, most_tokens: float = np.inf, contain: bool = False) -> list[Told[Event]]:
        """Read once for every task: what each that took its results has to tell, in their order.

        Of prompts one chunk is read, and others as long as all together have `most_tokens` tokens
        at most. Tasks that are done have left. With `contain` an exception of a task's own ends
        that task alone, and one of what is done for all of them at once ends all.
        """
        told: list[Told[Event]] = []
        for run in self.runs.copy():
            self._attempt(run, lambda: self._plan(run), told, contain)  # noqa: B023, called at once
        self._share(lambda: self._read(most_tokens), told, contain)
        now = self.clock()
        for run in self._are_read():
            self._attempt(run, run.prepare, told, contain)
        self._share(lambda: draw_together(run.task for run in self._are_read()), told, contain)
        for run in self._are_read():
            run.tokens_read += sum(len(read.ids) for read in run.reads)
            self._attempt(run, lambda: run.take(now < run.deadline), told, contain)  # noqa: B023
        self._gather([each.run for each in told])
        return told

    def _are_read(self) -> list[Run[Event]]:
        return [run for run in self.runs if run.is_read()]

    def close(self) -> None:
        """Let all tasks go."""
        while self.runs:
            self.remove(self.runs[-1])

    def _attempt(
        self,
        run: Run[Event],
        method: Callable[[], list[Event] | None],
        told: list[Told[Event]],
        contain: bool,
    ) -> None:
        """Call a method of a task's; note what it tells, or that it failed."""
        try:
            events = method()
        except Exception as error:
            if not contain:
                raise
            told.append(self._failed(run, error))
            return
        if events is not None:
            told.append(Told(run, events))
            if run.task.done:
                self.remove(run)

    def _share(self, work: Callable[[], None], told: list[Told[Event]], contain: bool) -> None:
        """Do what is done for all tasks at once; note where it failed, whereby all of them have."""
        try:
            work()
        except Exception as error:
            if not contain:
                raise
            told += [self._failed(run, error) for run in self.runs.copy()]

    def _failed(self, run: Run[Event], error: Exception) -> Told[Event]:
        """Let a task go, and say why."""
        self.remove(run)
        return Told(run, [], error)

    def _gather(self, took: Sequence[Run[Event]]) -> None:
        """Let all that write be neighbours, where one begins to while others' prompts are read.

        A prompt's row among theirs would split every step in two.
        """
        reading = [run for run in self.runs if run.unread]
        if reading and any(run.takes == 1 for run in took):
            writing = [run for run in self.runs if not run.unread]
            self.decoder.gather([row for run in writing for row in run.task.rows])

    def _plan(self, run: Run[Event]) -> None:
        run.plan(self.decoder.chunk, lambda read: self._restored(read, run.tenant))

    def _restored(self, read: Read, tenant: str | None) -> Read:
        """What is left to be read of a text's beginning."""
        if self._prefixes is None or read.row.length or not _is_cacheable(read):
            return read
        known = self._prefixes.restore(read.row, read.ids, tenant)
        return read._replace(ids=read.ids[known:])

    def _read(self, most_tokens: float) -> None:
        """The steps of all, and what may be read of prompts."""
        parts: list[tuple[Run[Event], int, Read]] = []
        left = most_tokens
        while reading := [run for run in self.runs if run.unread]:
            run = self._next_chunk(reading)
            tokens = len(run.unread[0][1].ids)
            if left < most_tokens and tokens > left:
                break
            if most_tokens == np.inf or any(run is other for other, _, _ in parts):
                # Where nobody's step waits, threads may have turns; a row comes once in a call.
                self._do(parts)
                parts = []
            parts.append((run, *run.unread.popleft()))
            left -= tokens
        parts += [(run, place, run.reads[place]) for run in self.runs for place in run.steps()]
        self._do(parts)

    def _do(self, parts: Sequence[tuple[Run[Event], int, Read]]) -> None:
        """Have some reads done, and note what came of them."""
        if not parts:
            return
        results = self.decoder.read([read for _, _, read in parts])
        for (run, place, _), result in zip(parts, results, strict=True):
            run.results[place].append(result)
            if run.takes == 0 and not run.unread:
                self._keep(run)

    def _keep(self, run: Run[Event]) -> None:
        """Note prompts that were read to their end."""
        for read in run.reads:
            if self._prefixes and _is_cacheable(read) and read.row.length == len(read.ids):
                self._prefixes.keep(read.row, read.ids, run.tenant)


def _is_cacheable(read: Read) -> bool:
    """Whether a read is a prompt of which no more is wanted than what follows it."""
    return read.prompt and read.wanted == LAST and not read.hidden


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
            for told in loop.turn():
                yield from told.events
    finally:
        loop.close()


def _reserve(decoder: Decoder[Any], tasks: Sequence[Task[Any]]) -> None:
    """Make room for all rows at once: growing one by one would copy."""
    if tasks:
        longest = max(task.length for task in tasks)
        decoder.reserve(sum(task.rows_needed for task in tasks), min(longest, decoder.n_positions))
