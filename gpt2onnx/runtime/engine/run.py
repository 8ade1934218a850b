"""A task in the engine's loop: what it reads, chunk by chunk, and what came of that so far.

Knows nothing of other tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from gpt2onnx.runtime.decoder.protocol import Read, Result, chunks, joined
from gpt2onnx.runtime.decoding.plain import PlainTask
from gpt2onnx.runtime.decoding.task import Task

Event = TypeVar("Event")


@dataclass(eq=False)
class Run(Generic[Event]):
    """A task in the loop, what it reads now, and what came of that so far."""

    task: Task[Event]
    number: int  # in the order of arrival
    deadline: float = np.inf  # by the loop's clock
    tenant: str | None = None
    reads: list[Read] = field(default_factory=list)
    results: list[list[Result]] = field(default_factory=list)  # of each read, chunk by chunk
    unread: deque[tuple[int, Read]] = field(default_factory=deque)  # chunks of prompts, by read
    tokens_read: int = 0
    takes: int = 0

    @property
    def tokens_left(self) -> int:
        """The tokens of prompts that are still to be read."""
        return sum(len(part.ids) for _, part in self.unread)

    def plan(self, chunk: int, restored: Callable[[Read], Read]) -> None:
        """Ask the task what it reads, unless that is still being read."""
        if self.reads:
            return
        self.reads = self.task.plan()
        self.results = [[] for _ in self.reads]
        for place, read in enumerate(self.reads):
            if read.prompt and len(read.ids) > 1:
                read = self.reads[place] if self.takes else restored(read)
                self.unread.extend((place, part) for part in chunks(read, chunk))

    def steps(self) -> list[int]:
        """The reads that every turn does: lone tokens and drafts; none once they are done."""
        return [
            place
            for place, read in enumerate(self.reads)
            if not self.results[place] and not (read.prompt and len(read.ids) > 1)
        ]

    def is_read(self) -> bool:
        """Whether the task can take its results."""
        return bool(self.reads) and not self.unread and all(self.results)

    def prepare(self) -> None:
        """Let the task do with its results what comes before draws that are made together."""
        if isinstance(self.task, PlainTask):
            self.task.prepare(self._joined())

    def take(self, in_time: bool) -> list[Event]:
        """Hand the task its results."""
        results = self._joined()
        self.reads = []
        self.takes += 1
        return self.task.take(results, in_time)

    def _joined(self) -> list[Result]:
        return [joined(parts) for parts in self.results]
