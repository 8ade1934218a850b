"""Whose prompt's next chunk is read, where several prompts are being read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Prompt(Protocol):
    """A prompt that is being read."""

    @property
    def tokens_left(self) -> int:
        """The tokens that are still to be read."""

    @property
    def number(self) -> int:
        """Its place in the order of arrival."""


AnyPrompt = TypeVar("AnyPrompt", bound=Prompt)


def next_chunk(prompts: Sequence[AnyPrompt], turn: int) -> AnyPrompt:
    """Which of some prompts, one at least, reads its next chunk in the `turn`-th turn.

    In even turns that with the fewest tokens left, in odd ones the oldest: so a short prompt waits
    for one chunk of the others at most before each of its own, and a long one that comes to be the
    oldest gets every second turn.
    """
    if turn % 2:
        return min(prompts, key=lambda prompt: prompt.number)
    return min(prompts, key=lambda prompt: (prompt.tokens_left, prompt.number))
