"""What a GPT-2 makes of a text, by the export's forward pass: influence, perplexity.

Block influence (ShortGPT, Men et al. 2024, https://arxiv.org/abs/2403.03853) is how far a layer
turns the stream that it reads: 1 minus the cosine between input and output, a mean over tokens.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.calibration.forward_pass import Forward, watch_layers
from gpt2onnx.export.checkpoint.checkpoint import Weights, head_matrix
from gpt2onnx.export.checkpoint.floats import require_finite

Float = NDArray[np.float32]
Ids = NDArray[np.int64]


def block_influence(weights: Weights, windows: Ids) -> list[float]:
    """How far each layer turns the stream of ids [windows, tokens]."""
    forward = Forward(weights, _unwatched)
    hidden = forward.embed(windows)
    found = []
    for layer in range(weights.config.n_layer):
        before = hidden.copy()
        advance(forward, layer, hidden)
        found.append(1 - float(_cosines(before, hidden).mean()))
    return found


def advance(forward: Forward, layer: int, hidden: Float) -> None:
    """One layer on, in place. Raises WeightsError where numbers leave float32's range."""
    with np.errstate(all="ignore"):  # what comes of it is looked at
        forward.layer(layer, hidden)
    require_finite(hidden, f"h.{layer}, reading a text")


def perplexity(weights: Weights, windows: Ids) -> float:
    """Of the tokens of ids [windows, tokens] but for each window's first."""
    matrix = head_matrix(weights)
    following = iter(windows)
    total = 0.0

    def read(name: str, hidden: Float) -> None:
        nonlocal total
        if name == "lm_head":
            total -= _logprob(hidden[:-1] @ matrix.T, next(following)[1:])

    for _ in watch_layers(weights, windows, read):
        pass
    mean = total / windows[:, 1:].size
    if not mean < math.log(np.finfo(np.float64).max):
        raise WeightsError("the model's perplexity on the text is infinite; is it damaged?")
    return math.exp(mean)


def _logprob(logits: Float, targets: Ids) -> float:  # [n, vocab], [n]
    """The targets' log-probabilities, summed."""
    largest = logits.max(axis=-1)
    total = np.log(np.exp(logits - largest[:, None]).sum(axis=-1, dtype=np.float64)) + largest
    return float((logits[np.arange(len(targets)), targets] - total).sum())


def _cosines(one: Float, other: Float) -> NDArray[np.float64]:  # [..., width] both -> [...]
    products = np.einsum("...d,...d->...", one, other, dtype=np.float64)
    norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    cosines: NDArray[np.float64] = products / np.maximum(norms, np.finfo(np.float32).tiny)
    return cosines


def _unwatched(name: str, values: Float) -> None:
    """What a matrix reads is nobody's business here."""
