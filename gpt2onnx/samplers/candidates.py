"""The tokens that may still be drawn, with their logits.

Warpers narrow them, a draw picks one. A set of candidates is small after the first filter, so
whatever follows costs what calling numpy costs; Rows are several sets that share the calls. Knows
nothing of parameters, of history or of chance.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.samplers.cumulative import Side, reaching, total

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
One: TypeAlias = Any  # a number of a set; of Rows one each, [rows, 1]


# No penalty or temperature moves a logit further: what float32 can hold, with room to compute with.
LARGEST = 1e35


def within(logits: FloatArray, bound: float) -> bool:  # [n]
    """Whether all are nearer than that to 0: not where one is -inf, forbidden."""
    distances = np.abs(logits)
    return len(distances) > 0 and bool(distances[distances.argmax()] < bound)


def bounded(changed: FloatArray, logits: FloatArray) -> FloatArray:  # [n], [n] -> [n]
    """What became of logits, between -LARGEST and LARGEST; what was -inf, forbidden, stays so."""
    near = np.minimum(changed, LARGEST)  # np.clip takes five times as long for few
    np.maximum(near, -LARGEST, out=near)
    near[logits == -np.inf] = -np.inf
    return near


class Candidates:
    """Token ids in ascending order, each with its logit. Never empty, never changed in place.

    What several steps of a chain ask for is computed once, when it is first asked for.
    """

    __slots__ = ("_below", "_most", "_total", "_weights", "ids", "logits")

    def __init__(self, ids: IntArray, logits: FloatArray) -> None:  # [n], [n]
        self.ids, self.logits = ids, logits
        self._most: One = None
        self._below: FloatArray | None = None
        self._weights: FloatArray | None = None
        self._total: One = None

    @classmethod
    def of(cls, logits: FloatArray) -> Candidates:  # [vocab] -> [n]
        """All tokens that a row of logits leaves possible: those above -inf.

        Raises ParameterError where there are none, and where the row holds NaN or +inf, which have
        no distribution.
        """
        lowest, highest = logits.min(), logits.max()
        if highest == -np.inf:
            raise ParameterError(
                "the constraints leave no token: expected at least one that ",
                *(Given("suppress_tokens"), ", ", Given("bad_words_ids"), ", "),
                *(Given("no_repeat_ngram_size"), ", ", Given("prefix_allowed_tokens_fn")),
                ", the end tokens' rules and the text's grammar all allow; relax one of them",
            )
        if not highest < np.inf:
            raise ParameterError(
                f"the logits' maximum is {highest}: expected finite logits; check the model's "
                "weights and precision, and that no penalty is extreme",
                name="logits",
            )
        everything = cls(vocabulary(len(logits)), logits)
        return everything if lowest > -np.inf else everything.where(logits > -np.inf)

    def itself(self) -> Candidates:
        """These, for whoever asks later."""
        return self

    def where(self, keep: BoolArray) -> Candidates:  # [n] -> [kept]
        """The candidates at which `keep` is true."""
        index = keep.nonzero()[0]
        if len(index) == len(keep):
            return self
        return Candidates(self.ids.take(index), self.logits.take(index))

    def take(self, values: FloatArray, places: One | IntArray) -> One | FloatArray:  # [n], [k]
        """The values at `places`."""
        return values.take(places)

    def sum(self, values: FloatArray) -> One:  # [n]
        """The values' sum."""
        return total(values)

    def count(self, mask: BoolArray) -> One:  # [n]
        """How often a mask is true."""
        return np.count_nonzero(mask)

    def reaching(self, weights: FloatArray, share: One, side: Side) -> One:  # [n]
        """The first place up to which weights sum to a share of them all: cumulative.reaching."""
        return reaching(weights, share, side)

    @property
    def most(self) -> One:
        """The largest logit."""
        if self._most is None:
            self._most = self.logits[self.logits.argmax()]  # a third of what max takes for few
        return self._most

    @property
    def below(self) -> FloatArray:  # [n]
        """Each logit less the largest."""
        if self._below is None:
            self._below = self.logits - self.most
        return self._below

    @property
    def weights(self) -> FloatArray:  # [n]
        """In proportion to the probabilities, the largest 1."""
        if self._weights is None:
            if self._below is None:  # memory that is written to twice is half as much
                self._weights = self.logits - self.most
                np.exp(self._weights, out=self._weights)
            else:
                self._weights = np.exp(self._below)
        return self._weights

    @property
    def total(self) -> One:
        """The sum of those."""
        if self._total is None:
            self._total = self.sum(self.weights)
        return self._total

    def probabilities(self) -> FloatArray:  # [n]
        """Softmax over the candidates alone."""
        probabilities: FloatArray = self.weights / self.total
        return probabilities

    def logprobs(self) -> FloatArray:  # [n]
        """The logarithms of those."""
        logprobs: FloatArray = self.below - np.log(self.total)
        return logprobs

    def logprob(self, place: int) -> float:
        """The one at `place`."""
        return float(self.logits[place] - self.most - np.log(self.total))


# What is left of a row, worked out where it is asked for.
Left = Callable[[], Candidates]


# Behind any id.
_END = np.array([np.iinfo(np.int64).max])


def distinct(*ids: IntArray) -> IntArray:  # [n] each -> [k]
    """Each id of several arrays once, in ascending order: for few np.unique takes much longer."""
    ascending = np.concatenate([*ids, _END])
    ascending.sort()
    is_last: BoolArray = ascending[1:] != ascending[:-1]
    return ascending.take(is_last.nonzero()[0])


def first_of_each(ascending: IntArray) -> BoolArray:  # [n] -> [n]
    """Where each id comes first."""
    first = np.empty(len(ascending), np.bool_)
    first[:1] = True
    np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
    return first


@lru_cache(maxsize=4)
def vocabulary(size: int) -> IntArray:  # [size]
    """0, 1, … size - 1: made once, shared by every row, hence read-only."""
    ids = np.arange(size, dtype=np.int64)
    ids.setflags(write=False)
    return ids
