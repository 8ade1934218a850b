"""Warpers: candidates in, fewer or reshaped candidates out.

Pure functions that keep what transformers' warper of the same name keeps (with its
min_tokens_to_keep = 1, so that none ever removes the last candidate). Each normalizes over the
candidates that it is given. None sorts the vocabulary unless the distribution is so flat that it
has to. They know nothing of history, of chance, or of each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from gpt2onnx.samplers.candidates import BoolArray, Candidates, FloatArray
from gpt2onnx.samplers.logprobs import log_softmax

Warper = Callable[[Candidates], Candidates]


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
    that to the processor.
    """
    logits = candidates.logits
    peak = logits.max()
    target = p * np.exp(logits - peak).sum(dtype=np.float64)
    for size in _growing(len(logits)):
        largest = np.sort(np.partition(logits, len(logits) - size)[len(logits) - size :])[::-1]
        reached = np.cumsum(np.exp(largest - peak), dtype=np.float64)
        if reached[-1] >= target:
            break
    count = min(int(np.searchsorted(reached, target)) + 1, len(largest))
    return candidates.where(_largest(logits, count, largest[count - 1]))


def min_p(candidates: Candidates, *, p: float) -> Candidates:  # [n] -> [kept]
    """Keeps tokens at least `p` times as probable as the best one (Nguyen et al., 2407.01082)."""
    if p == 0:
        return candidates
    # p_i >= p * p_max, in logarithms: no softmax needed.
    return candidates.where(candidates.logits - candidates.logits.max() >= math.log(p))


def typical_p(candidates: Candidates, *, p: float) -> Candidates:  # [n] -> [kept]
    """Keeps the tokens of information nearest the entropy, until their probabilities reach `p`.

    Meister et al., 2202.00666.
    """
    logprobs = log_softmax(candidates.logits)
    probabilities = np.exp(logprobs)
    distance = np.abs(-logprobs - _entropy(probabilities, logprobs))
    for size in _growing(len(distance)):
        nearest = np.argpartition(distance, size - 1)[:size]
        nearest = nearest[np.argsort(distance[nearest])]
        reached = np.cumsum(probabilities[nearest], dtype=np.float64)
        if reached[-1] >= p:
            break
    last = min(int(np.searchsorted(reached, p)), len(nearest) - 1)
    return candidates.where(distance <= distance[nearest[last]])


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


def _largest(logits: FloatArray, count: int, smallest: np.float32) -> BoolArray:  # [n] -> [n]
    """Where the `count` largest stand: all above `smallest`, then the first that equal it."""
    keep = logits >= smallest
    surplus = int(np.count_nonzero(keep)) - count
    if surplus:
        keep[np.flatnonzero(logits == smallest)[-surplus:]] = False
    return keep


def _growing(n: int) -> Iterator[int]:
    """How many of `n` to sort: few at first, which is enough for a peaked distribution."""
    size = 512
    while size < n:
        yield size
        size *= 16
    yield n


def _entropy(probabilities: FloatArray, logprobs: FloatArray) -> float:  # [n], [n] -> nats
    """-sum p log p, with 0 log 0 = 0."""
    finite = np.maximum(logprobs, np.finfo(np.float32).min)
    return -float((probabilities * finite).sum())
