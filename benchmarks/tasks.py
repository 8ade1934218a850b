"""What is measured, and in which order: rounds that visit every engine in turn. Knows no engine."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Task:
    """Rows of a prompt each, and greedy tokens after it."""

    rows: int
    context: int
    count: int

    def prompts(self, vocab_size: int) -> list[list[int]]:
        """Random tokens, the same ones every time and for every engine."""
        draw = random.Random(self.rows * 10_000 + self.context)
        return [[draw.randrange(vocab_size) for _ in range(self.context)] for _ in range(self.rows)]

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures' names."""
        if self.rows > 1:
            return (f"batch_{self.rows}_tokens_per_s",)
        return f"decode_{self.context}_ms", f"prompt_{self.context}_ms"

    def read(self, times: Sequence[float]) -> dict[str, float]:
        """A visit's figures, from the seconds of each step, the first one with the prompt."""
        step = statistics.median(times[1:])
        values = [self.rows / step] if self.rows > 1 else [1e3 * step, 1e3 * times[0]]
        return dict(zip(self.figures, values, strict=True))


def tasks(n_positions: int, quick: bool) -> list[Task]:
    """Those that fit into the model's positions."""
    count = 17 if quick else 33  # the first token comes with the prompt
    all_tasks = [Task(1, 32, count), Task(1, 512, count), Task(8, 32, count)]
    if not quick:
        all_tasks += [Task(1, 900, count), Task(32, 32, 17)]
    return [task for task in all_tasks if task.context + task.count <= n_positions]


def interleaved(items: Sequence[Item], rounds: int) -> Iterator[tuple[int, Item]]:
    """A B C, A B C, …: each item with its round's number.

    Round 0 comes on top of `rounds` and is not to be counted: it fills caches.
    """
    for number in range(rounds + 1):
        for item in items:
            yield number, item
