"""A row's candidates by its largest logits, where these are enough: the same as by all of them.

The first filter of a chain leaves few of a vocabulary's tokens, and to look at all of them for
those is most of what a choice costs. What follows that filter sees the same candidates either way.
Knows nothing of history or of chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gpt2onnx.samplers import warpers
from gpt2onnx.samplers.candidates import LARGEST, Candidates
from gpt2onnx.samplers.chain.steps import compose_warpers
from gpt2onnx.samplers.top_logits import ALL, TopLogits
from gpt2onnx.samplers.warpers import Warper

# Nats: where a border comes nearer than this to what isn't at hand, the whole row is asked.
_MARGIN = 1e-3


class AtHand(NamedTuple):
    """What is known of a row without looking at all of it."""

    top: TopLogits
    # The logits after penalties, of the `top` and of whatever else may have risen: no other token
    # has more than it had before.
    candidates: Candidates
    is_changed: bool  # whether there are penalties


class Shortcut:
    """What a chain of warpers makes of the largest logits.

    `temperature`, the attribute, is the one that TopLogits.sums are to be of; `keeps_all` says that
    the chain leaves nothing out, and `needs` is how many of the largest settle what it keeps, or
    ALL.
    """

    def __init__(self, steps: Sequence[Warper]) -> None:
        heat, steps = _split(steps)
        self.temperature = min(float(heat.keywords["t"]), LARGEST) if heat else 1.0
        self._heat: Warper = heat or compose_warpers([])
        self.keeps_all = not steps
        self._filter = _filter(steps[0]) if steps else None
        self.needs = ALL
        if self._filter and self._filter.func is _top_k:
            self.needs = self._filter.keywords.get("k", warpers.DEFAULT_TOP_K)
        self._rest = compose_warpers(steps[1:])

    def candidates(self, at_hand: AtHand) -> Candidates | None:
        """What the chain leaves of a row; None where the whole row has to be asked."""
        if self._filter is None or not len(at_hand.candidates.ids):  # all of them are forbidden
            return None
        kept = self._filter(at_hand, self._heat(at_hand.candidates), self.temperature)
        return None if kept is None else self._rest(kept)


def _split(steps: Sequence[Warper]) -> tuple[partial[Candidates] | None, Sequence[Warper]]:
    """A plain temperature that comes first, where one does, and the steps behind it."""
    first = steps[0] if steps else None
    if isinstance(first, partial) and first.func is warpers.temperature:
        asked = first.keywords
        if not asked.get("spread") and asked.get("t", 0.0) >= warpers.SAFE:
            return first, steps[1:]
    return None, steps


def _filter(step: Warper) -> partial[Candidates | None] | None:
    """How a chain's first filter works on what is at hand, where it does.

    It takes that, its logits after the temperature, and the temperature; it gives what it keeps, or
    None where not all of that is at hand.
    """
    ways: dict[Any, Callable[..., Candidates | None]] = {
        warpers.top_k: _top_k,
        warpers.min_p: _min_p,
        warpers.top_p: _top_p,
    }
    if isinstance(step, partial) and step.func in ways:
        return partial(ways[step.func], **step.keywords)
    return None


def _top_k(
    at_hand: AtHand, heated: Candidates, temperature: float, *, k: int = warpers.DEFAULT_TOP_K
) -> Candidates | None:
    """The k largest and their equals, where all else is below them."""
    logits = at_hand.candidates.logits
    if k > len(logits):
        return None
    smallest = np.partition(logits, len(logits) - k)[len(logits) - k]
    return warpers.top_k(heated, k=k) if at_hand.top.is_below(smallest) else None


def _min_p(
    at_hand: AtHand, heated: Candidates, temperature: float, *, p: float
) -> Candidates | None:
    """The tokens near the best one, where all else is further from it."""
    last = at_hand.top.logits[-1] / temperature
    is_far = last - heated.logits.max() < math.log(p) - _MARGIN
    return warpers.min_p(heated, p=p) if is_far else None


def _top_p(
    at_hand: AtHand, heated: Candidates, temperature: float, *, p: float
) -> Candidates | None:
    """The fewest most probable tokens that reach `p` of the whole row, where these do."""
    (_, logits, _, sums), _, is_changed = at_hand
    if is_changed or sums is None:  # what penalties made of the whole row's sum isn't known
        return None
    falling = logits / temperature
    reached = np.cumsum(np.exp(falling - falling[0]), dtype=np.float64)
    last = int(np.searchsorted(reached, p * sums.sum(dtype=np.float64)))
    if last == len(falling) or np.count_nonzero(falling == falling[last]) > 1:
        return None  # of equals the lowest ids stay: temperature may have made others equal, too
    return heated.where(heated.logits >= falling[last])
