"""Warpers: candidates in, fewer or reshaped candidates out.

Pure functions that keep what transformers' warper of the same name keeps (with its
min_tokens_to_keep = 1, so that none ever removes the last candidate). Each normalizes over the
candidates that it is given. None sorts the vocabulary: that would cost more than the rest of the
chain. They know nothing of history, of chance, or of each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gpt2onnx.samplers.candidates import BoolArray, Candidates, FloatArray
from gpt2onnx.samplers.logprobs import log_softmax

Warper = Callable[[Candidates], Candidates]

_BINS_PER_NAT = 32
_LAST_BIN = 32 * _BINS_PER_NAT  # all that is 32 nats away or more: a probability of 1e-14


def temperature(candidates: Candidates, *, t: float) -> Candidates:  # [n] -> [n]
    """Divides the logits by `t`, above 0."""
    return Candidates(candidates.ids, candidates.logits / t)


def top_k(candidates: Candidates, *, k: int) -> Candidates:  # [n] -> [≥ min(k, n)]
    """Keeps the `k` largest logits, and all that equal the k-th (Fan et al., 1805.04833)."""
    n = len(candidates.logits)
    if k >= n:
        return candidates
    smallest = np.partition(candidates.logits, n - k)[n - k]
    return candidates.where(candidates.logits >= smallest)


def top_p(candidates: Candidates, *, p: float) -> Candidates:  # [n] -> [kept]
    """Keeps the most probable tokens, as few as reach `p` (Holtzman et al., 1904.09751).

    Of equal logits at the border the lowest ids stay, as in `greedy`; transformers' sort leaves
    that to the processor. 1 is off.
    """
    if p == 1:
        return candidates
    below_peak = candidates.logits.max() - candidates.logits
    return candidates.where(_nearest(below_peak, np.exp(-below_peak), p))


def min_p(candidates: Candidates, *, p: float) -> Candidates:  # [n] -> [kept]
    """Keeps tokens at least `p` times as probable as the best one (Nguyen et al., 2407.01082)."""
    if p == 0:
        return candidates
    # p_i >= p * p_max, in logarithms: no softmax needed.
    return candidates.where(candidates.logits - candidates.logits.max() >= math.log(p))


def typical_p(candidates: Candidates, *, p: float) -> Candidates:  # [n] -> [kept]
    """Keeps the tokens of information nearest the entropy, until their probabilities reach `p`.

    Meister et al., 2202.00666. All at the distance of the last one stay. 1 is off.
    """
    if p == 1:
        return candidates
    logprobs = log_softmax(candidates.logits)
    probabilities = np.exp(logprobs)
    distance = np.abs(logprobs + _entropy(probabilities, logprobs))
    furthest = distance[_nearest(distance, probabilities, p)].max()
    return candidates.where(distance <= furthest)


def epsilon_cutoff(candidates: Candidates, *, epsilon: float) -> Candidates:  # [n] -> [kept]
    """Keeps tokens of probability `epsilon` or more (Hewitt et al., 2210.15191)."""
    return _at_least(candidates, candidates.probabilities(), epsilon)


def eta_cutoff(candidates: Candidates, *, epsilon: float) -> Candidates:  # [n] -> [kept]
    """Keeps tokens of probability min(epsilon, sqrt(epsilon) * exp(-entropy)) or more.

    Hewitt et al., 2210.15191.
    """
    logprobs = log_softmax(candidates.logits)
    probabilities = np.exp(logprobs)
    eta = min(epsilon, math.sqrt(epsilon) * math.exp(-_entropy(probabilities, logprobs)))
    return _at_least(candidates, probabilities, eta)


def _at_least(candidates: Candidates, probabilities: FloatArray, cutoff: float) -> Candidates:
    """The candidates at `cutoff` or above it, and in any case the most probable ones."""
    best = candidates.logits == candidates.logits.max()
    return candidates.where((probabilities >= cutoff) | best)


def _nearest(distances: FloatArray, weights: FloatArray, p: float) -> BoolArray:  # [n] -> [n]
    """Where the smallest distances stand, in nats from 0, whose weights reach the share `p` of all.

    As few as can be, the first ones among equals. Weights are summed by bins of distance, so that
    only the tokens of one bin, at the border, need sorting.
    """
    bins = np.minimum(distances * _BINS_PER_NAT, _LAST_BIN).astype(np.intp)
    reached = np.cumsum(np.bincount(bins, weights))
    target = p * reached[-1]
    border = int(np.searchsorted(reached, target))
    inside = np.flatnonzero(bins == border)
    inside = inside[np.argsort(distances[inside], kind="stable")]
    missing = target - (reached[border - 1] if border else 0)
    count = 1 + np.searchsorted(np.cumsum(weights[inside], dtype=np.float64), missing)
    keep = bins < border
    keep[inside[:count]] = True
    return keep


def _entropy(probabilities: FloatArray, logprobs: FloatArray) -> float:  # [n], [n] -> nats
    """-sum p log p, with 0 log 0 = 0."""
    finite = np.maximum(logprobs, np.finfo(np.float32).min)
    return -float((probabilities * finite).sum())
