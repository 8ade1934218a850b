"""How far a candidate's logits are from a reference's, over the positions of a text.

Takes logits in pieces and keeps a few numbers a position, never the logits. Knows numpy alone, and
nothing of where logits come from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]

# Rows that are worked on at once: their double-precision copies stay in the processor's cache.
ROWS = 16
# A positive float's bits are ordered as the float is, and the upper 17 of its 32 (the sign, which
# is 0, 8 of exponent, 8 of mantissa) make a scale of 256 steps an octave: a histogram's bins.
LOWER_BITS = 15
BINS = 1 << (31 - LOWER_BITS)


class Agreement:
    """Grows by `add`; each figure is over all positions so far, of which it needs one.

    After double-precision softmaxes, KL is exact to about 1e-15 nats: enough to tell fp32 from
    fp32.
    """

    def __init__(self) -> None:
        self._kl: list[NDArray[np.float32]] = []
        self._agrees: list[NDArray[np.bool_]] = []
        self._largest = 0.0
        self._histogram = np.zeros(BINS, np.int64)

    def add(self, reference: Logits, candidate: Logits) -> None:
        """Take in the logits [n, vocab] of n positions, finite numbers, of both models."""
        if reference.shape != candidate.shape or reference.ndim != 2:
            raise ValueError(
                f"reference {reference.shape} and candidate {candidate.shape}: expected the same "
                "[n, vocab] of both"
            )
        for start in range(0, len(reference), ROWS):
            self._add(reference[start : start + ROWS], candidate[start : start + ROWS])

    def _add(self, reference: Logits, candidate: Logits) -> None:
        difference = np.abs(reference - candidate, dtype=np.float32)
        bins = difference.view(np.uint32) >> LOWER_BITS
        self._largest = float(np.maximum(self._largest, difference.max()))  # NaN stays
        self._histogram += np.bincount(bins.ravel(), minlength=BINS)
        self._kl.append(_kl_divergence(reference, candidate).astype(np.float32))
        self._agrees.append(reference.argmax(axis=-1) == candidate.argmax(axis=-1))

    @property
    def tokens(self) -> int:
        """How many positions were compared."""
        return sum(map(len, self._kl))

    @property
    def kl_by_position(self) -> NDArray[np.float32]:
        """KL(softmax(reference) || softmax(candidate)), nats: [tokens], in the order of `add`."""
        return np.concatenate(self._kl)

    @property
    def top1_by_position(self) -> NDArray[np.bool_]:
        """Whether both have the same most probable token, the first among equals: [tokens]."""
        return np.concatenate(self._agrees)

    @property
    def kl_mean(self) -> float:
        """The mean of `kl_by_position`."""
        return float(self.kl_by_position.mean(dtype=np.float64))

    @property
    def kl_p99(self) -> float:
        """The 99th percentile of `kl_by_position`, interpolated as numpy.quantile does."""
        return float(np.quantile(self.kl_by_position, 0.99))

    @property
    def top1_agreement(self) -> float:
        """The share of `top1_by_position` that is true, 0 to 1."""
        return float(self.top1_by_position.mean())

    @property
    def max_logit_difference(self) -> float:
        """The largest magnitude of reference - candidate, over all positions' whole vocabulary."""
        return self._largest

    @property
    def logit_difference_p999(self) -> float:
        """What 99.9 % of the magnitudes of reference - candidate don't exceed, all logits counted.

        The smallest difference of which that is true, rounded down to 8 bits of mantissa: at most
        0.4 % less than the exact one.
        """
        below = self._histogram.cumsum()
        first = np.searchsorted(below, 0.999 * below[-1])
        return float(np.uint32(first << LOWER_BITS).view(np.float32))


def _kl_divergence(reference: Logits, candidate: Logits) -> NDArray[np.float64]:
    """KL(softmax(reference) || softmax(candidate)) of [n, vocab] each, nats: [n]."""
    log_p, log_q = _log_softmax(reference), _log_softmax(candidate)
    kl: NDArray[np.float64] = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return np.maximum(kl, 0)  # rounding may leave less than nothing


def _log_softmax(logits: Logits) -> NDArray[np.float64]:  # [n, vocab] -> [n, vocab]
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted
