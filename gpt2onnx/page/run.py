"""A run as the page shows it: plain data, and figures derived from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Option(NamedTuple):
    """A token that could have come."""

    text: str
    probability: float


class Step(NamedTuple):
    """A new token, the most probable of the others, and the entropy that it was chosen at."""

    text: str
    probability: float
    others: Sequence[Option] = ()
    entropy: float | None = None  # bits

    @property
    def surprise(self) -> float:
        """-log2 of the probability: what the entropy expects on average. Bits."""
        return -math.log2(self.probability) if self.probability else math.inf

    @property
    def options(self) -> list[tuple[Option, bool]]:
        """This token and the others, the most probable first, and which of them was chosen."""
        chosen = (Option(self.text, self.probability), True)
        others = ((other, False) for other in self.others)
        return sorted([chosen, *others], key=lambda option: -option[0].probability)


class Node(NamedTuple):
    """A branch of a beam search: a hypothesis with one token more.

    `parent` is its place among the nodes of the step before; the first step's is the prompt, 0.
    `score` is the hypothesis' summed log-probability, after penalties and warpers.
    """

    text: str
    probability: float
    score: float
    parent: int
    fate: Literal["kept", "finished", "pruned"]
    best: bool = False  # on the way to the text that is shown


@dataclass(frozen=True)
class Run:
    """A prompt, what came after it, and of a beam search the nodes of each step, left to right.

    `end` is why it ended, None where it was interrupted. `about` has what else to tell, in pairs.
    """

    prompt: str
    steps: Sequence[Step]
    end: str | None = None
    about: Sequence[tuple[str, str]] = ()
    levels: Sequence[Sequence[Node]] = ()

    @property
    def perplexity(self) -> float:
        """2 to the power of the mean surprise, in bits; of no steps NaN."""
        if not self.steps:
            return math.nan
        mean = sum(step.surprise for step in self.steps) / len(self.steps)
        return math.inf if mean > 1000 else 2**mean
