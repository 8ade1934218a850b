"""The top logits, and whether they are enough to choose the token.

Most ways to choose look at few logits, and those are found fastest where the logits are made: on a
GPU that spares 26 MB a step for a batch of 128 and GPT-2's vocabulary, on a CPU most of what a
choice costs. Knows nothing of devices, parameters or chance.
"""

from __future__ import annotations

import math
import sys
from typing import Final, NamedTuple

import numpy as np

from gpt2onnx.samplers.candidates import Candidates, FloatArray, IntArray

ALL: Final = sys.maxsize  # of the logits: more than any row has
# Logits closer than this share of their size may be equal once a temperature divided them.
_ROUNDING = 1e-6


class TopLogits(NamedTuple):
    """The `top` largest logits of a row, largest first. Ties with the last may be missing."""

    ids: IntArray  # [top]
    logits: FloatArray  # [top]
    logprobs: FloatArray  # [top], what log_softmax over the whole row makes of them
    # [blocks], sums of exp((logit - the largest) / a temperature) over each of the row's blocks of
    # cumulative.BLOCK, where that temperature was told; where there is a border, of what top-p
    # leaves alone
    sums: FloatArray | None = None
    # The smallest logit that top-p leaves, where its share was told and this is certain; else NaN
    border: float = math.nan

    @property
    def is_finite(self) -> bool:
        """False for a row with NaN or infinities: the whole row is needed to say so."""
        return math.isfinite(self.logprobs[0])

    @property
    def has_border(self) -> bool:
        """Whether sums are of what top-p leaves."""
        return not math.isnan(self.border)

    def settles(self, count: int) -> bool:
        """Whether the `count` largest, and all ties with the last of them, are among these."""
        return (
            count < len(self.ids)
            and self.is_finite
            and self.is_below(float(self.logits[count - 1]))
        )

    def is_below(self, smallest: float) -> bool:
        """Whether all else in the row is below a logit, whatever temperature divides both."""
        last = float(self.logits[-1])
        if last == -math.inf:  # all else is forbidden
            return smallest > last
        return smallest - last > _ROUNDING * abs(last)

    def logprob(self, token: int, logits: FloatArray) -> float:  # [vocab], or none
        """The log-probability of a token of the row, or of one of these where it isn't there."""
        logit = logits[token] if len(logits) else self.logits[self.ids == token][0]
        return float(logit - self.logits[0] + self.logprobs[0])

    def total(self, temperature: float) -> float | None:
        """The sum of exp((logit - the largest) / temperature) over the row, if it is known.

        `temperature` is the one that `sums` are of.
        """
        if self.sums is not None and not self.has_border:
            return float(self.sums.sum(dtype=np.float64))
        return float(np.exp(-self.logprobs[0])) if temperature == 1 else None

    def best(self) -> Candidates:
        """The largest, and its equals."""
        ids = np.sort(self.ids[self.logits == self.logits[0]])
        return Candidates(ids, np.full(len(ids), self.logits[0]))

    def candidates(self) -> Candidates:
        order = np.argsort(self.ids)
        return Candidates(self.ids[order], self.logits[order])
