"""Warpers: candidates in, fewer or reshaped candidates out.

Pure functions. Those that transformers has keep what its warper of the same name keeps (with
min_tokens_to_keep = 1); the others keep what their authors say. None ever removes the last
candidate, and each normalizes over the candidates that it is given. None sorts more than values:
an argsort of the vocabulary would cost more than the rest of the chain. They know nothing of
history, of chance, or of each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from gpt2onnx.samplers.candidates import LARGEST, Candidates, FloatArray, One, bounded
from gpt2onnx.samplers.nearest import furthest
from gpt2onnx.samplers.nucleus import nucleus

Warper = Callable[[Candidates], Candidates]

# transformers'.
DEFAULT_TOP_K: Final = 50
# Logits divided by less would overflow float32.
LOWEST_TEMPERATURE = 1e-30

# Logits within 1e35 can be divided by this and more.
SAFE = 1e-3
# The squares of larger ones would leave float32.
_ROOT = 1e15

_LOWEST = np.finfo(np.float32).min


def temperature(
    candidates: Candidates, *, t: float = 1.0, spread: float = 0.0, exponent: float = 1.0
) -> Candidates:  # [n] -> [n]
    """Divides the logits by `t`, above 0; with a `spread` by what the entropy says around it."""
    if spread:
        low, high = max(t - spread, 0.0), t + spread
        return dynamic_temperature(candidates, low=low, high=high, exponent=exponent)
    if t >= SAFE:
        return Candidates(candidates.ids, candidates.logits / min(t, LARGEST))
    with np.errstate(over="ignore"):
        divided = candidates.logits / t
    return Candidates(candidates.ids, bounded(divided, candidates.logits))


def dynamic_temperature(
    candidates: Candidates, *, low: float, high: float, exponent: float = 1.0
) -> Candidates:  # [n] -> [n]
    """Divides the logits by a temperature from `low`, where one token has all, to `high`.

    It is low + (high - low) * (entropy / log n) ** exponent; log n is the largest entropy that n
    candidates can have. kalomaze's, as in koboldcpp (its pull request 600) and llama.cpp. A `low`
    of 0 stands for the lowest temperature that there is.
    """
    n = np.count_nonzero(candidates.logits > -np.inf)
    if n == 1:
        return candidates
    logprobs = candidates.logprobs()
    entropy = float(_entropy(candidates, np.exp(logprobs), logprobs))
    evenness = min(max(entropy, 0.0) / math.log(n), 1.0)
    t = low + (high - low) * evenness**exponent
    return temperature(candidates, t=max(t, LOWEST_TEMPERATURE))


def quadratic(
    candidates: Candidates, *, factor: float, curve: float = 1.0
) -> Candidates:  # [n] -> [n]
    """Moves each logit to where a parabola, or a cubic, puts its distance from the largest one.

    kalomaze's smoothing, as text-generation-webui has it: at distance d it comes to lie
    `factor` * ((3 - curve) / 2 * d ** 2 + (curve - 1) / 2 * d ** 3) below the largest.
    """
    possible = candidates.logits > -np.inf
    logits = candidates.logits.astype(np.float64)
    largest = logits.max()
    distance = np.where(possible, largest - logits, 0)
    below = factor * distance**2 * ((3 - curve) / 2 + (curve - 1) / 2 * distance)
    moved = (largest - below).clip(np.finfo(np.float32).min, np.finfo(np.float32).max)
    return Candidates(candidates.ids, np.where(possible, moved, -np.inf).astype(np.float32))


def top_k(candidates: Candidates, *, k: int = DEFAULT_TOP_K) -> Candidates:  # [n] -> [≥ min(k, n)]
    """Keeps the `k` largest logits, and all that equal the k-th (Fan et al., 1805.04833).

    0 is off.
    """
    n = candidates.logits.shape[-1]
    if k >= n or k == 0:
        return candidates
    smallest = np.partition(candidates.logits, n - k)[..., n - k, None]
    return candidates.where(candidates.logits >= smallest)


def top_p(candidates: Candidates, *, p: float) -> Candidates:  # [n] -> [kept]
    """Keeps the most probable tokens, as few as reach `p` (Holtzman et al., 1904.09751).

    Of equal logits at the border the lowest ids stay, as in `greedy`; transformers' sort leaves
    that to the processor. 1 is off.
    """
    if p == 1:
        return candidates
    found = nucleus(candidates, p)
    if found:
        return candidates.where(found.keeps(candidates.logits))
    falling, weights = _falling(candidates)
    last = candidates.reaching(weights, p, "left")
    border = candidates.take(falling, last)
    keep = candidates.logits >= border
    if np.count_nonzero(candidates.count(keep) - 1 - last):
        above, equal = candidates.logits > border, candidates.logits == border
        room = last + 1 - candidates.count(above)
        keep = above | (equal & (equal.cumsum(axis=-1) <= room))
    return candidates.where(keep)


def min_p(candidates: Candidates, *, p: float) -> Candidates:  # [n] -> [kept]
    """Keeps tokens at least `p` times as probable as the best one (Nguyen et al., 2407.01082)."""
    if p == 0:
        return candidates
    # p_i >= p * p_max, in logarithms: no softmax needed.
    return candidates.where(candidates.below >= math.log(p))


def typical_p(candidates: Candidates, *, p: float) -> Candidates:  # [n] -> [kept]
    """Keeps the tokens of information nearest the entropy, until their probabilities reach `p`.

    Meister et al., 2202.00666. All at the distance of the last one stay. 1 is off.
    """
    if p == 1:
        return candidates
    distance = candidates.logprobs()
    probabilities = np.exp(distance)
    distance += _entropy(candidates, probabilities, distance)
    np.abs(distance, out=distance)
    return candidates.where(distance <= furthest(candidates, distance, probabilities, p))


def epsilon_cutoff(candidates: Candidates, *, epsilon: float) -> Candidates:  # [n] -> [kept]
    """Keeps tokens of probability `epsilon` or more (Hewitt et al., 2210.15191)."""
    return _at_least(candidates, candidates.probabilities(), epsilon)


def eta_cutoff(candidates: Candidates, *, epsilon: float) -> Candidates:  # [n] -> [kept]
    """Keeps tokens of probability min(epsilon, sqrt(epsilon) * exp(-entropy)) or more.

    Hewitt et al., 2210.15191.
    """
    logprobs = candidates.logprobs()
    probabilities = np.exp(logprobs)
    entropy = _entropy(candidates, probabilities, logprobs)
    eta = min(epsilon, math.sqrt(epsilon) * math.exp(-entropy))
    return _at_least(candidates, probabilities, eta)


def top_n_sigma(candidates: Candidates, *, n: float) -> Candidates:  # [m] -> [kept]
    """Keeps logits at most `n` standard deviations below the largest one.

    Tang et al., 2411.07641, with the deviation of their program: torch's, which divides by m - 1.
    """
    logits = candidates.logits
    possible = logits if logits.min() > -np.inf else logits[logits > -np.inf]
    if len(possible) == 1:
        return candidates
    far = max(possible.max(), -possible.min()) > _ROOT
    deviation = possible.std(ddof=1, dtype=np.float64 if far else None)
    limit = float(logits.max()) - n * float(deviation)
    return candidates.where(logits >= max(limit, -LARGEST))


def tail_free(candidates: Candidates, *, z: float) -> Candidates:  # [n] -> [kept]
    """Cuts the tail off, where the sorted probabilities have stopped bending.

    Phénix and Egan's tail-free sampling (trentonbricken.com/Tail-Free-Sampling): the second
    differences of the probabilities, from the largest on, are taken as absolute values and summed
    until they exceed the share `z` of them all; what is less probable than the middle one of that
    last difference's three tokens goes. 1 is off. Programs differ by a token: for
    text-generation-webui the middle one goes too, for llama.cpp the first one as well.
    """
    if z == 1 or len(candidates.logits) < 3:
        return candidates
    falling, weights = _falling(candidates)
    bends = np.abs(np.diff(weights, 2))
    if not bends.any():
        return candidates
    last = candidates.reaching(bends, z, "right")
    return candidates.where(candidates.logits >= falling[last + 1])


def top_a(candidates: Candidates, *, a: float) -> Candidates:  # [n] -> [kept]
    """Keeps tokens of probability `a` times the square of the best one's, or more.

    BlinkDL's (RWKV-LM, "The top-a sampling method"). The better the best one, the stricter.
    """
    best = 1 / float(candidates.total)
    return min_p(candidates, p=a * best)


# Those that narrow Rows as well, each row as if it were alone.
BY_ROWS: Final[frozenset[Callable[..., Candidates]]] = frozenset(
    (top_k, top_p, min_p, typical_p, epsilon_cutoff)
)


def _at_least(candidates: Candidates, probabilities: FloatArray, cutoff: float) -> Candidates:
    """The candidates at `cutoff` or above it, and in any case the most probable ones."""
    best = candidates.logits == candidates.most
    return candidates.where((probabilities >= cutoff) | best)


def _falling(candidates: Candidates) -> tuple[FloatArray, FloatArray]:  # [n] -> [n], [n]
    """The logits from the largest on, and weights in proportion to their probabilities."""
    rising = candidates.logits.copy()
    rising.sort()  # as np.sort does, sooner
    falling = rising[..., ::-1]
    weights = falling - candidates.most
    np.exp(weights, out=weights)
    return falling, weights


def _entropy(
    candidates: Candidates, probabilities: FloatArray, logprobs: FloatArray
) -> One:  # [n], [n]
    """-sum p log p, in nats, with 0 log 0 = 0."""
    terms = np.maximum(logprobs, _LOWEST)
    terms *= probabilities
    return -candidates.sum(terms)
