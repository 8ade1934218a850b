"""The directions of matrices' inputs and outputs that the next token's distribution heeds most.

They are the leading eigenvectors of the Fisher information E[g g^T], thus the right singular
vectors of the gradients g. Knows nothing of what is done along them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from gpt2onnx.export.calibration.backward_pass import watch_gradients
from gpt2onnx.export.calibration.forward_pass import Float, Ids
from gpt2onnx.export.checkpoint.checkpoint import Weights
from gpt2onnx.export.writing.progress import Track, silent

# Halko, Martinsson & Tropp 2011, algorithm 4.4, https://arxiv.org/abs/0909.4061
OVERSAMPLING, POWER_ITERATIONS = 8, 3
# Directions of twice as many hold a hundredth more of the gradients' squares, for twice the time.
SENSITIVITY_TOKENS = 512
# Of the largest square: what float32's rounding leaves where there is nothing.
NOISE = 1e-12
# Of outputs all 512 do no better than these (docs/notes/quantization.md).
OUTPUT_RANK = 64


class Sensitivity(NamedTuple):
    """By a matrix's name, what the model is most sensitive to.

    inputs: directions [in, rank], the first most, orthonormal
    outputs: the same as gradients [rank, out]: of as many tokens, the ones that say most
    """

    inputs: dict[str, Float]
    outputs: dict[str, Float]


def sensitivity(
    weights: Weights,
    windows: Ids,
    inputs: Collection[str],
    rank: int,
    outputs: Collection[str] = (),
    track: Track = silent,
) -> Sensitivity:
    """What the model is most sensitive to, of the inputs and outputs of matrices by name.

    A name is "h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc" or "h.0.mlp.c_proj". `rank` is
    the inputs'. Where `windows` [windows, tokens] show fewer directions, the last are zeros.

    Raises WeightsError where numbers leave float32's range.
    """
    found = Sensitivity({}, {})

    def keep_input(name: str, gradients: Float) -> None:
        if name in inputs:
            found.inputs[name] = leading_directions(gradients, rank)

    def keep_output(name: str, gradients: Float) -> None:
        if name in outputs:
            directions = leading_directions(gradients, OUTPUT_RANK)
            lengths = np.linalg.norm(gradients @ directions, axis=0)
            found.outputs[name] = (directions * lengths).T

    layers = watch_gradients(weights, windows, keep_input, keep_output)
    for _ in track(range(weights.config.n_layer), "sensitivity"):
        next(layers)
    return found


def leading_directions(rows: Float, rank: int) -> Float:
    """The leading right singular vectors of [n, in], the first most -> [in, rank].

    Orthonormal columns; zeros where `rows` have no further direction.
    """
    found = np.zeros((rows.shape[1], rank), np.float32)
    largest = max(rows.max(), -rows.min())
    if not largest:
        return found
    rows = rows / largest  # squares of very small or large ones would leave float32's range
    size = min(rank + OVERSAMPLING, *rows.shape)
    start = np.random.default_rng(0).standard_normal((len(rows), size), np.float32)
    basis = orthonormal(rows.T @ start)
    for _ in range(POWER_ITERATIONS):
        basis = orthonormal(rows.T @ orthonormal(rows @ basis))
    sketch = rows @ basis
    vectors = np.linalg.eigh(sketch.T @ sketch)[1][:, ::-1][:, :rank]  # the largest first
    found[:, : vectors.shape[1]] = basis @ vectors
    return found


def orthonormal(columns: Float) -> Float:
    """A basis of what columns [n, count] span -> [n, at most count].

    By products of matrices: a QR decomposition's many small steps, each by all threads, take a
    hundred times as long where another process keeps one of them waiting.
    """
    exact = columns.astype(np.float64)
    values, vectors = np.linalg.eigh(exact.T @ exact)
    kept = values > values[-1] * NOISE
    basis: Float = (exact @ (vectors[:, kept] / np.sqrt(values[kept]))).astype(np.float32)
    return basis
