"""The steps of a beam search, recorded for the page of a run.

Knows branches and tokens' texts; knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.page import Node, Option, Step
from gpt2onnx.samplers import Branch, Hypothesis, entropy, top_logprobs

# A hypothesis by its new tokens, and which running one each of them continued.
_Key: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
_ROOT: _Key = ((), ())


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
        return next(each for each in ended if _key(each)[0] == written)

    def steps(self, hypothesis: Hypothesis | None) -> list[Step]:
        """How a hypothesis came about."""
        if hypothesis is None:
            return []
        tokens, beams = _key(hypothesis)
        steps = zip(self._noted, tokens, beams, hypothesis.logprobs, strict=False)
        return [self._step(*noted[beam], token, logprob) for noted, token, beam, logprob in steps]

    def levels(self, best: Hypothesis | None) -> list[list[Node]]:
        """The tree: each step's branches beside their siblings, the best way marked."""
        way = _way(best) if best else set()
        above, levels = {_ROOT: 0}, []
        for branches in self._branches:
            ordered = sorted(branches, key=lambda b: (above[_parent(b)], -b.hypothesis.score))
            levels.append([self._node(branch, above, way) for branch in ordered])
            above = {_of(branch): place for place, branch in enumerate(ordered)}
        return levels

    def _node(self, branch: Branch, above: dict[_Key, int], way: set[_Key]) -> Node:
        return Node(
            self._text_of(branch.token),
            math.exp(branch.hypothesis.logprobs[-1]),
            branch.hypothesis.score,
            above[_parent(branch)],
            branch.fate,
            _of(branch) in way,
        )

    def _step(self, nats: float, top: list[tuple[int, float]], token: int, logprob: float) -> Step:
        others = [Option(self._text_of(id_), math.exp(other)) for id_, other in top if id_ != token]
        return Step(self._text_of(token), math.exp(logprob), others, nats / math.log(2))

    def _most_probable(self, row: NDArray[np.floating[Any]]) -> list[tuple[int, float]]:
        if not self._top:
            return []
        ids, logprobs = top_logprobs(row, self._top)
        return list(zip(ids.tolist(), logprobs.tolist(), strict=True))


def _key(hypothesis: Hypothesis) -> _Key:
    new = hypothesis.tokens[-hypothesis.length :]
    return tuple(new.tolist()), tuple(hypothesis.beams.tolist())


def _of(branch: Branch) -> _Key:
    return _key(branch.hypothesis)


def _parent(branch: Branch) -> _Key:
    tokens, beams = _of(branch)
    return tokens[:-1], beams[:-1]


def _way(hypothesis: Hypothesis) -> set[_Key]:
    """All hypotheses that this one was on its way."""
    tokens, beams = _key(hypothesis)
    return {(tokens[:length], beams[:length]) for length in range(1, len(tokens) + 1)}
