"""The steps of a beam search, recorded for the page of a run.

Knows branches and tokens' texts; knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.page import Node, Option, Step
from gpt2onnx.samplers import Branch, Hypothesis, entropy, top_logprobs
from gpt2onnx.samplers.beam.tree import BeamTree, Way, way_of


class BeamRecord:
    """An observer of one prompt's search, which notes `top` alternatives of every step."""

    def __init__(self, text_of: Callable[[int], str], top: int) -> None:
        self._text_of, self._top = text_of, top
        self._branches: list[Sequence[Branch]] = []
        self._noted: list[list[tuple[float, list[tuple[int, float]]]]] = []

    def __call__(
        self, index: int, logits: NDArray[np.floating[Any]], branches: Sequence[Branch]
    ) -> None:
        """Take a step: logits [running, vocab] and what came of them."""
        self._branches.append(branches)
        self._noted.append([(float(entropy(row)), self._most_probable(row)) for row in logits])

    def best(self, token_ids: Sequence[int] | None = None) -> Hypothesis | None:
        """The one that these new tokens are of; without, the best so far."""
        if token_ids is None:
            last = self._branches[-1] if self._branches else ()
            alive = [branch.hypothesis for branch in last if branch.fate != "pruned"]
            return max(alive, key=lambda each: each.score, default=None)
        written = tuple(token_ids)
        ended = (b.hypothesis for b in self._branches[len(written) - 1] if b.fate == "finished")
        return next(each for each in ended if way_of(each)[0] == written)

    def steps(self, hypothesis: Hypothesis | None) -> list[Step]:
        """How a hypothesis came about."""
        if hypothesis is None:
            return []
        tokens, beams = way_of(hypothesis)
        steps = zip(self._noted, tokens, beams, hypothesis.logprobs, strict=False)
        return [self._step(*noted[beam], token, logprob) for noted, token, beam, logprob in steps]

    def levels(self, best: Hypothesis | None) -> list[list[Node]]:
        """The tree: each step's branches beside their siblings, the best way marked."""
        ways = _ways(best) if best else set()
        tree = BeamTree()
        return [
            [self._node(*each, ways) for each in tree.grow(branches)] for branches in self._branches
        ]

    def _node(self, branch: Branch, parent: int, ways: set[Way]) -> Node:
        return Node(
            self._text_of(branch.token),
            math.exp(branch.hypothesis.logprobs[-1]),
            branch.hypothesis.score,
            parent,
            branch.fate,
            way_of(branch.hypothesis) in ways,
        )

    def _step(self, nats: float, top: list[tuple[int, float]], token: int, logprob: float) -> Step:
        others = [Option(self._text_of(id_), math.exp(other)) for id_, other in top if id_ != token]
        return Step(self._text_of(token), math.exp(logprob), others, nats / math.log(2))

    def _most_probable(self, row: NDArray[np.floating[Any]]) -> list[tuple[int, float]]:
        if not self._top:
            return []
        ids, logprobs = top_logprobs(row, self._top)
        return list(zip(ids.tolist(), logprobs.tolist(), strict=True))


def _ways(hypothesis: Hypothesis) -> set[Way]:
    """All hypotheses that this one was on its way."""
    tokens, beams = way_of(hypothesis)
    return {(tokens[:length], beams[:length]) for length in range(1, len(tokens) + 1)}
