"""Top-k indices, and k drawn without replacement.

Both look at all continuations of all beams, 200,000 for four beams of GPT-2's, at every step. They
know nothing of what the scores are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.samplers.candidates import FloatArray, IntArray

# Maxima are taken over this many scores at once.
_DEPTH = 128


def largest(scores: NDArray[np.floating[Any]], count: int) -> IntArray:  # [n] -> [≤ count]
    """Where the `count` largest scores above -inf stand, largest first; of equals, the first ones.

    The count-th largest of some scores, here of column maxima, is at most that of all, so only
    those that reach it need sorting: a fifth of what np.argpartition takes.
    """
    columns = max(len(scores) // _DEPTH, min(count, len(scores)))
    maxima = scores[: len(scores) // columns * columns].reshape(-1, columns).max(axis=0)
    place = max(columns - count, 0)
    threshold = np.partition(maxima, place)[place]
    reached = scores >= threshold if threshold > -np.inf else scores > -np.inf
    index = np.flatnonzero(reached)
    return index[np.argsort(-scores[index], kind="stable")[:count]]


def drawn(scores: FloatArray, count: int, rng: np.random.Generator) -> IntArray:  # [n] -> [≤ count]
    """Where `count` scores stand, drawn one after the other by softmax(scores), none twice.

    Adding Gumbel noise and taking the largest is just that: Gumbel-top-k (Kool et al., 1903.06059).
    There are fewer where fewer scores are above -inf.
    """
    index = np.flatnonzero(scores > -np.inf)
    return index[largest(scores[index] + rng.gumbel(size=len(index)), count)]
