"""The nucleus of many candidates, found without sorting them.

A sample of the logits says about where its border is. What is surely below is only summed, and what
may be either side of the border, a few hundredths of all, is sorted. The answer is that of sorting
all, or there is none: sums are rounded otherwise here, and where that could move the border it has
to be found by the sort. Knows nothing of what is drawn.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gpt2onnx.samplers.candidates import BoolArray, Candidates, FloatArray, IntArray
from gpt2onnx.samplers.cumulative import BLOCK, Sums, block_sums

# With fewer candidates a sort is as fast.
LEAST = 4096
_SAMPLE = 2048
# Of the total: float64 sums of 2 ** 20 numbers agree to this, in whatever order they are added up.
_ROUNDING = 1e-9


class Nucleus(NamedTuple):
    """What stays of some candidates: those at `border` and above it, but the ones `beyond`."""

    border: float
    beyond: IntArray  # places of logits at the border that are too many
    sums: Sums  # [blocks], of the weights that stay, as `block_sums`

    def keeps(self, logits: FloatArray, first: int = 0) -> BoolArray:  # [n] -> [n]
        """Which of the logits from place `first` on stay."""
        keep: BoolArray = logits >= self.border
        if len(self.beyond):
            places = self.beyond - first
            keep[places[(places >= 0) & (places < len(keep))]] = False
        return keep


def nucleus(candidates: Candidates, p: float) -> Nucleus | None:  # [n]
    """The most probable candidates, as few as reach `p`, below 1; of equals the first ones.

    None where there are too few to gain anything, and where a sort has to say it.
    """
    if candidates.logits.shape[-1] < LEAST:
        return None
    logits, weights = candidates.logits, candidates.weights
    total = float(weights.sum(dtype=np.float64))
    room = total - p * total  # what may stay outside
    low, high = _bracket(candidates, room / len(logits))
    is_above = logits >= low
    sums = block_sums(weights * is_above)
    below = total - float(sums.sum())
    places = (is_above & (logits <= high)).nonzero()[0]
    between = logits.take(places)
    rising = np.sort(between)
    outside = np.exp(rising - candidates.most).astype(np.float64).cumsum() + below
    border = _border(rising, outside, room, _ROUNDING * total)
    if border is None or (below > room - _ROUNDING * total and low > -math.inf):
        return None
    equal = places[between == rising[border]]
    beyond = equal[np.count_nonzero(rising[border:] == rising[border]) :]
    out = np.concatenate([places[between < rising[border]], beyond])
    sums -= np.bincount(out // BLOCK, weights.take(out), len(sums))
    # Rounding, in blocks of which nothing stays: whatever stays weighs more than room / n.
    sums[sums < room / (2 * len(logits))] = 0
    return Nucleus(rising[border], beyond, sums)


def _bracket(candidates: Candidates, room: float) -> tuple[float, float]:  # [n]
    """Logits between which the border should be; `room` is what stays outside, a candidate."""
    rising = np.sort(candidates.logits[:: len(candidates.logits) // _SAMPLE])
    outside = np.exp(rising - candidates.most).astype(np.float64).cumsum()
    place, count = int(outside.searchsorted(room * len(rising))), len(rising)
    margin = 4 + math.isqrt(9 * place * (count - place) // count)  # three deviations of a rank
    low = rising[place - margin] if place >= margin else -np.inf
    high = rising[place + margin] if place + margin < count else np.inf
    return low, high


def _border(rising: FloatArray, outside: Sums, room: float, doubt: float) -> int | None:
    """The first that stays of [n], where sums up to each of them leave no doubt of it."""
    place = int(outside.searchsorted(room, "right"))
    if place == len(rising):
        return None
    nearest = np.abs(outside[max(place - 1, 0) : place + 1] - room).min()
    return place if nearest > doubt else None
