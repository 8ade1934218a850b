"""What a supervisor and its workers tell each other, wherever they run. Plain values."""

from __future__ import annotations

import os
from dataclasses import dataclass

from gpt2onnx.batch.shards import Shard
from gpt2onnx.errors import Advised, PromptError

# Shards that a worker has at once: while the last lines of one are written, the next one's fill the
# rows.
LANES = 2


@dataclass(frozen=True)
class Work:
    """A shard to answer: where its lines are, and where its records go."""

    shard: Shard
    source: str
    marks: tuple[int, int]  # the source's size and time of change, in nanoseconds
    target: str

    def require_unchanged(self, descriptor: int) -> None:
        """Raises PromptError where the open source isn't what the job was begun with."""
        found = os.fstat(descriptor)
        if (found.st_size, found.st_mtime_ns) != self.marks:
            raise PromptError(
                f"{self.source}: it was changed while the job ran; ",
                *(Advised("force", True), " begins the job anew"),
            )


@dataclass(frozen=True)
class Ready:
    """A worker has its model."""


@dataclass(frozen=True)
class Progress:
    """Records that were appended to a shard's file since the last word."""

    shard: Shard
    lines: int
    failed: int
    read: int  # tokens of prompts
    written: int


@dataclass(frozen=True)
class Finished:
    """A shard has all of its records."""

    shard: Shard


@dataclass(frozen=True)
class Lost:
    """A worker died, and what it had is to be given to others."""

    works: tuple[Work, ...]
    how: str


@dataclass(frozen=True)
class Failed:
    """What no other worker would do better: it ends the job."""

    error: Exception


Event = Ready | Progress | Finished | Lost | Failed
