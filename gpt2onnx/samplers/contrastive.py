"""Contrastive search: picks the probable token whose hidden state is least like the context's.

Su et al., 2202.06417. Knows probabilities and hidden states; knows nothing of where they come from.
"""

from __future__ import annotations

import numpy as np

from gpt2onnx.samplers.candidates import FloatArray


def contrast(
    probabilities: FloatArray, candidates: FloatArray, context: FloatArray, alpha: float
) -> int:
    """Which of k candidates comes next: the first of those with the highest score.

    (1 - alpha) * probability - alpha * max cosine similarity to a token of the context. The
    probabilities are [k], the hidden states [k, d] and [n, d], of length 1 each (`unit`).
    """
    similarity = (candidates @ context.T).max(axis=1)
    return int(np.argmax((1 - alpha) * probabilities - alpha * similarity))


def unit(vectors: FloatArray) -> FloatArray:
    """The same directions at length 1: [n, d] -> [n, d]. A vector of zeros stays what it is."""
    lengths: FloatArray = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    lengths[lengths == 0] = 1
    return vectors / lengths
