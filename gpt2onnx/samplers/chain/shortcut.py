"""A row's candidates by its largest logits, where these are enough: the same as by all of them.

The first filter of a chain leaves few of a vocabulary's tokens, and to look at all of them for
those is most of what a choice costs. What follows that filter sees the same candidates either way.
Knows nothing of history or of chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gpt2onnx.samplers import warpers
from gpt2onnx.samplers.candidates import LARGEST, Candidates, FloatArray, vocabulary
from gpt2onnx.samplers.chain.at_hand import AtHand
from gpt2onnx.samplers.chain.penalized import Penalized
from gpt2onnx.samplers.chain.steps import compose_warpers
from gpt2onnx.samplers.cumulative import BLOCK, reaching
from gpt2onnx.samplers.nucleus import LEAST, nucleus
from gpt2onnx.samplers.spread import Spread
from gpt2onnx.samplers.top_logits import ALL, TopLogits
from gpt2onnx.samplers.warpers import Warper

# Nats: where a border comes nearer than this to what isn't at hand, the whole row is asked.
_MARGIN = 1e-3
# Sums at hand may differ from numpy's by these shares: 25 roundings to float32, those of logits up
# to 20 nats below the largest, and those of that one's own size; all times two.
_LOGIT_ERROR = 4 * 2.0**-24
_SUM_ERROR = 50 * 2.0**-24 + 20 * _LOGIT_ERROR
# What is outside of less is nearly all, which a float32 can't tell from that.
_LEAST_SHARE = 1e-3


class Shortcut:
    """What a chain of warpers makes of the largest logits.

    `temperature`, the attribute, is the one that TopLogits.sums are to be of, and `outside` the
    share of a row that they may leave out, where top_p is all that the chain does; `keeps_all` says
    that it leaves nothing out, and `needs` is how many of the largest settle what it keeps, or ALL.
    `rest` is what follows the first filter, and `alike` equal where two chains' do the same by
    rows; None where it goes by single ones alone.
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
        self._share = _share(steps)
        self.outside = 1 - self._share if self._share and self._share > _LEAST_SHARE else 0.0
        self._filter_all, self.rest = compose_warpers(steps[:1]), compose_warpers(steps[1:])
        self.alike = _by_rows(steps[1:])

    def narrowed(self, top: TopLogits, penalized: Penalized) -> Candidates | None:
        """What the first filter leaves of a row [vocab]; None where the whole row has to be asked.

        What the chain leaves is the `rest` of it.
        """
        if top.has_border:
            return None
        at_hand = AtHand.of(top, penalized) if self._filter else None
        if self._filter is None or at_hand is None:
            return None
        if not len(at_hand.candidates.ids):  # all of them are forbidden
            return None
        return self._filter(at_hand, self._heat(at_hand.candidates), self.temperature)

    def all(self, top: TopLogits, penalized: Penalized) -> Spread | None:
        """All tokens of a row [vocab], where the sums of their weights are known."""
        if top.sums is None:
            return None
        given = penalized.given
        (most,) = self._heated(top.logits[:1])
        return Spread(top.sums, most, lambda place: self._heated(given[place * BLOCK :][:BLOCK]))

    def nucleus(self, top: TopLogits | None, penalized: Penalized) -> Spread | None:
        """The tokens of a row [vocab] that top_p leaves, where it is all that the chain does."""
        if top and top.has_border:
            return self._bordered(top, penalized.given)
        if self._share is None or len(penalized.logits) < LEAST:
            return None
        if not top:
            Candidates.of(penalized.logits)  # says what is wrong with the row
        heated = self._heat(Candidates(vocabulary(len(penalized.logits)), penalized.logits))
        found = nucleus(heated, self._share) if heated.most > -np.inf else None
        if found is None:
            return None

        def block(place: int) -> FloatArray:  # -> [BLOCK] or fewer
            first = place * BLOCK
            logits = heated.logits[first : first + BLOCK]
            return np.where(found.keeps(logits, first), logits, -np.inf)

        return Spread(found.sums, heated.most, block)

    def _bordered(self, top: TopLogits, given: FloatArray) -> Spread:  # [vocab]
        """The same by the border and the sums that were found where the logits were made."""
        assert top.sums is not None
        (most,) = self._heated(top.logits[:1])

        def block(place: int) -> FloatArray:  # -> [BLOCK] or fewer
            logits = given[place * BLOCK :][:BLOCK]
            return np.where(logits >= top.border, self._heated(logits), -np.inf)

        return Spread(top.sums, most, block, lambda share: self._exactly(given, share))

    def _exactly(self, given: FloatArray, share: float) -> int:  # [vocab]
        """The first token of the nucleus of a row up to which there is more than `share` of it."""
        row = Penalized(given)
        if spread := self.nucleus(None, row):
            return spread.reaching(share)
        kept = self._filter_all(self._heat(Candidates.of(given)))
        return int(kept.ids[reaching(kept.weights, share, "right")])

    def _heated(self, logits: FloatArray) -> FloatArray:  # [n] -> [n]
        return self._heat(Candidates(vocabulary(len(logits)), logits)).logits


def _by_rows(steps: Sequence[Warper]) -> Hashable | None:
    """Equal for chains that do the same, where they narrow Rows as well; else None."""
    partials = [step for step in steps if isinstance(step, partial)]
    if len(partials) < len(steps) or not warpers.BY_ROWS.issuperset(s.func for s in partials):
        return None
    return tuple((step.func, *step.keywords.items()) for step in partials)


def _share(steps: Sequence[Warper]) -> float | None:
    """The p of a chain that is top_p alone, where it leaves anything out."""
    if len(steps) == 1 and isinstance(steps[0], partial) and steps[0].func is warpers.top_p:
        p = float(steps[0].keywords["p"])
        return p if p < 1 else None
    return None


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

    It takes that, its candidates after the temperature, and the temperature; it gives what it
    keeps, or None where not all of that is at hand.
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
    if not at_hand.top.is_below(smallest):
        return None
    return heated.where(heated.logits >= smallest / temperature)  # a heated logit's bits


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
    total = at_hand.total(temperature)
    if total is None:
        return None
    top = at_hand.top
    falling = np.sort(heated.logits)[::-1]
    reached = np.exp(falling - top.logits[0] / temperature, dtype=np.float64).cumsum()
    missing = p * total
    last = int(reached.searchsorted(missing))
    if last == len(falling) or np.count_nonzero(falling == falling[last]) > 1:
        return None  # of equals the lowest ids stay: temperature may have made others equal, too
    before = reached.item(last - 1) if last else 0.0
    doubt = total * (_SUM_ERROR + abs(top.logits.item(0)) / temperature * _LOGIT_ERROR)
    if min(missing - before, reached.item(last) - missing) < doubt:
        return None
    if at_hand.moved.size and falling[last] - top.logits[-1] / temperature < _MARGIN:
        return None
    return heated.where(heated.logits >= falling[last])
