"""How far the nearest of some candidates reach that have a share of the weight.

Of many only those are sorted among which the furthest of them is. Knows nothing of what is near.
"""

from __future__ import annotations

import numpy as np

from gpt2onnx.samplers.candidates import Candidates, FloatArray, IntArray, One

_BINS = 1024
_FURTHEST = 32.0  # nats: all beyond, a probability of 1e-14, falls into one bin


def furthest(
    candidates: Candidates, distances: FloatArray, weights: FloatArray, p: float
) -> One:  # [n], [n]
    """The distance up to which the weights reach the share `p` of all."""
    if distances.shape[-1] > _BINS:
        return _of_many(distances, weights, p)
    order = distances.argsort(kind="stable")
    last = candidates.reaching(candidates.take(weights, order), p, "left")
    return candidates.take(candidates.take(distances, order), last)


def _of_many(distances: FloatArray, weights: FloatArray, p: float) -> float:  # [n], [n]
    """The same, of which only what may be the last is sorted."""
    inside, missing = _border(distances, weights, p)
    distances, weights = distances[inside], weights[inside]
    order = distances.argsort()
    last = int(weights.take(order).astype(np.float64).cumsum().searchsorted(missing))
    return distances.item(order.item(min(last, len(order) - 1)))


def _border(
    distances: FloatArray, weights: FloatArray, p: float
) -> tuple[IntArray, float]:  # [n], [n] -> [inside]
    """Those among which the share `p` is reached, and what the nearer ones leave of it to reach.

    Weights are summed by bins of distance, so that only those of one need sorting. Distances are in
    nats: what is beyond the last bin has next to no weight.
    """
    # Never 0, where all are at one distance.
    width = max(min(float(distances.max()), _FURTHEST), 1e-6) / _BINS
    with np.errstate(over="ignore"):
        bins = (distances * (1 / width)).clip(max=_BINS).astype(np.intp)
    reached = np.cumsum(np.bincount(bins, weights))
    target = p * reached[-1]
    border = int(np.searchsorted(reached, target))
    return np.flatnonzero(bins == border), target - (reached[border - 1] if border else 0)
