"""What is known of a row by its largest logits and by what penalties moved.

Knows nothing of what is asked of it.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from gpt2onnx.samplers.candidates import Candidates, FloatArray, IntArray, distinct
from gpt2onnx.samplers.chain.penalized import Penalized
from gpt2onnx.samplers.top_logits import TopLogits

# Tokens that penalties moved: with more, the whole row is as fast.
_MOST_MOVED = 2048
# Of a row's sum: where penalties took away so much that less is left, rounding is too large a share
# of that.
_LEAST_LEFT = 1e-2
_NONE = np.empty(0, np.float32)


class AtHand:
    """What is known of a row [vocab] without looking closely at all of it.

    `candidates` are the `top` and whatever else penalties may have moved, with what they made of
    them: no other token has more than the last of the top.
    """

    def __init__(
        self, top: TopLogits, candidates: Candidates, before: FloatArray, after: FloatArray
    ) -> None:
        """Of what penalties may have moved: the logits before and after, both [n]."""
        self.top, self.candidates = top, candidates
        self._before, self._after = before, after

    @classmethod
    def of(cls, top: TopLogits, penalized: Penalized) -> AtHand | None:
        """None where penalties moved too many, as what allows only few tokens does."""
        if penalized.unchanged:
            return cls(top, top.candidates(), _NONE, _NONE)
        found = _looked_at(top, penalized)
        if found is None:
            return None
        ids, before, after = found
        candidates = Candidates(ids, after)
        if after[after.argmin()] == -np.inf:
            candidates = candidates.where(after > -np.inf)
        return cls(top, candidates, before, after)

    @cached_property
    def moved(self) -> FloatArray:  # [2, moved]
        """Of what penalties moved: the logits before and after."""
        places = (self._before != self._after).nonzero()[0]
        return np.array((self._before.take(places), self._after.take(places)))

    @property
    def best(self) -> int | None:
        """Where the most probable token stands; None where one may be that isn't here."""
        logits = self.candidates.logits
        if not len(logits):  # all of them are forbidden
            return None
        place = int(logits.argmax())
        return place if self.top.logits[-1] < logits[place] < np.inf else None

    def total(self, temperature: float) -> float | None:
        """The sum of exp((logit - the top's largest) / temperature) over all tokens, if known.

        `temperature` is the one that the top's sums are of.
        """
        total = self.top.total(temperature)
        if total is None or not self.moved.size:
            return total
        with np.errstate(over="ignore"):  # what penalties raised may have all there is
            above = ((self.moved - self.top.logits[0]) / temperature).astype(np.float64)
            before, after = np.exp(above, out=above).sum(axis=1).tolist()
        left: float = total - before + after
        return left if _LEAST_LEFT * (total + after) < left < np.inf else None


def _looked_at(
    top: TopLogits, penalized: Penalized
) -> tuple[IntArray, FloatArray, FloatArray] | None:  # [n], [n], [n]
    """The top and what penalties may have moved: ids, and their logits before and after."""
    touched = penalized.touched
    if touched is None or sum(map(len, touched)) > _MOST_MOVED:
        moved = np.flatnonzero(penalized.logits != penalized.given)
        if len(moved) > _MOST_MOVED:
            return None
        ids = distinct(top.ids, moved)
        return ids, penalized.given.take(ids), penalized.logits.take(ids)
    ids = distinct(top.ids, *touched)
    before = penalized.given.take(ids)
    after = before.copy()
    for change in penalized.changes:
        change.apply(after, ids.searchsorted(change.ids))
    return ids, before, after
