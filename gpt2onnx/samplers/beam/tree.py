"""The tree of a beam search, level by level as it grows. Knows branches; knows no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from gpt2onnx.samplers.beam.hypotheses import Hypothesis
from gpt2onnx.samplers.beam.search import Branch

# A hypothesis by its new tokens, and which running one each of them continued.
Way: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]


class BeamTree:
    """Puts the branches of each step below their parents."""

    def __init__(self) -> None:
        self._above: dict[Way, int] = {((), ()): 0}

    def grow(self, branches: Sequence[Branch]) -> list[tuple[Branch, int]]:
        """The next level, left to right: each branch, and its parent's place in the level above.

        The first level's parent is the prompt, 0. Siblings are side by side, the best one first.
        """
        parents = [self._above[parent_of(way_of(branch.hypothesis))] for branch in branches]
        level = sorted(
            zip(branches, parents, strict=True),
            key=lambda each: (each[1], -each[0].hypothesis.score),
        )
        self._above = {way_of(branch.hypothesis): place for place, (branch, _) in enumerate(level)}
        return level


def way_of(hypothesis: Hypothesis) -> Way:
    """How a hypothesis came about, which no other one of its search did."""
    new = hypothesis.tokens[-hypothesis.length :]
    return tuple(new.tolist()), tuple(hypothesis.beams.tolist())


def parent_of(way: Way) -> Way:
    """The way before its last token."""
    tokens, beams = way
    return tokens[:-1], beams[:-1]
