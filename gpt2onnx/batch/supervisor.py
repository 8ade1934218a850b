"""Shares shards out to workers, takes back what lost ones had, and has whole ones merged.

Knows a pool of workers by what it says; knows nothing of models.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from gpt2onnx.batch.events import Event, Failed, Finished, Lost, Progress, Work
from gpt2onnx.batch.merge import Merger
from gpt2onnx.errors import BatchError

# Seconds that a supervisor waits for news.
PAUSE = 0.5
# Workers that may die, one after another, without a line that was done between.
MOST_DEATHS = 10


class Pool(Protocol):
    """Workers, wherever they are."""

    def assign(self, work: Work) -> bool:
        """Give work to one of them; False where all have enough."""

    def events(self, seconds: float) -> Iterator[Event]:
        """What has happened, as soon as something does, or nothing after so many seconds."""

    def close(self) -> None:
        """End them all at once."""


class BatchProgress(NamedTuple):
    """How far a job is: lines done of all, those that failed, and this run's share and tokens."""

    done: int
    total: int
    failed: int
    kept: int  # lines that were done before
    tokens_read: int
    tokens_written: int
    seconds: float  # since the first worker could be given something


class Source(NamedTuple):
    """A file of lines, as it was when the job began to read it."""

    path: Path
    marks: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> Source:
        found = path.stat()
        return cls(path, (found.st_size, found.st_mtime_ns))


@dataclass
class Counts:
    """What was done: lines of the whole job, tokens of this run."""

    total: int
    kept: int
    failed: int
    lines: int = 0  # of this run
    read: int = 0
    written: int = 0

    def add(self, event: Progress) -> None:
        self.lines += event.lines
        self.failed += event.failed
        self.read += event.read
        self.written += event.written

    def progress(self, seconds: float) -> BatchProgress:
        done = self.kept + self.lines
        return BatchProgress(
            *(done, self.total, self.failed, self.kept, self.read, self.written, seconds)
        )


def supervise(
    pool: Pool,
    sources: Sequence[Source],
    merger: Merger,
    counts: Counts,
    progress: Callable[[BatchProgress], object] | None,
) -> None:
    """Have all shards answered and merged. Raises BatchError, and what ends a worker's job."""
    began, deaths = time.monotonic(), 0
    waiting = deque(_works(sources, merger))
    while not merger.is_complete:
        while waiting and pool.assign(waiting[0]):
            waiting.popleft()
        for event in pool.events(PAUSE):
            _take(event, waiting, merger, counts)
            deaths = _deaths(event, deaths)
        if progress:
            progress(counts.progress(time.monotonic() - began))


def _works(sources: Sequence[Source], merger: Merger) -> list[Work]:
    """What is to be done yet, in the input's order."""
    return [
        Work(shard, str(sources[shard.file].path), sources[shard.file].marks, str(target))
        for shard, target in merger.missing()
    ]


def _take(event: Event, waiting: deque[Work], merger: Merger, counts: Counts) -> None:
    if isinstance(event, Progress):
        counts.add(event)
    elif isinstance(event, Finished):
        merger.add(event.shard)
    elif isinstance(event, Lost):
        waiting.extendleft(reversed(event.works))
    elif isinstance(event, Failed):
        raise event.error


def _deaths(event: Event, before: int) -> int:
    """How many workers died without anything done since. Raises BatchError for too many."""
    if isinstance(event, Progress | Finished):
        return 0
    if not isinstance(event, Lost):
        return before
    if before + 1 == MOST_DEATHS:
        lines = [f"{w.shard.first} to {w.shard.first + w.shard.lines - 1}" for w in event.works]
        raise BatchError(
            f"{MOST_DEATHS} workers ended one after another without answering a line, the last one "
            f"{event.how}, at lines {', '.join(lines) or 'none'} of the input: expected them to "
            "live; is there memory enough? Fewer workers or rows take less. What is done is kept"
        )
    return before + 1
