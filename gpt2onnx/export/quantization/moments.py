"""Second moments (x.T @ x) of the matrices' inputs over a text, one layer at a time.

Knows GPT-2's matrices by name; knows nothing of rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.calibration.forward_pass import Ids, watch, watch_layers
from gpt2onnx.export.checkpoint.checkpoint import Weights
from gpt2onnx.export.checkpoint.floats import require_finite
from gpt2onnx.export.quantization.blocks import BLOCK_SIZE
from gpt2onnx.export.quantization.gptq import GROUP
from gpt2onnx.export.quantization.table import MATRICES

Float = NDArray[np.float32]

# Twice as many gain a tenth of the KL, for twice the time (docs/notes/quantization.md).
MOMENT_TOKENS = 4096
# Of the head, which takes a pass of its own.
HEAD_TOKENS = 1024


class Moments:
    """x.T @ x of what a model's matrices are given, over `windows` [count, tokens].

    Layers' are asked for in the model's order, so that one layer's moments are held at once; the
    head's, or of a tied one the embedding's, at any time. `pad_heads` makes of what heads gave,
    [tokens, n_embd], what the graph has in its place.
    """

    def __init__(self, weights: Weights, windows: Ids, pad_heads: Callable[[Float], Float]) -> None:
        self._weights, self._windows, self._pad_heads = weights, windows, pad_heads
        self._layers = watch_layers(weights, windows, self._add)
        self._sums: dict[str, Float] = {}

    def __call__(self, name: str) -> Float | None:
        """[groups, size, size]: inputs of different groups count as unrelated.

        None of an embedding that is no head: it multiplies nothing.
        """
        if name in ("wte", "lm_head"):
            tied = self._weights.config.tie_word_embeddings
            return self._head() if tied or name == "lm_head" else None
        while name not in self._sums:
            self._sums.clear()
            next(self._layers)
        return self._sums.pop(name)

    def _head(self) -> Float:
        """The head's, of a part of the text: its table may be written first, by a pass for it."""
        found: list[Float] = []

        def add(name: str, x: Float) -> None:
            if name == "lm_head":
                found.append(_moments(x))

        tokens = self._windows[: -(-HEAD_TOKENS // self._windows.shape[1])]
        watch(self._weights, tokens, add)
        return require_finite(np.sum(found, axis=0), "lm_head")

    def _add(self, name: str, x: Float) -> None:
        if not name.endswith(MATRICES):
            return
        if name.endswith("attn.c_proj"):
            x = self._pad_heads(x)
        self._sums[name] = self._sums.get(name, 0) + require_finite(_moments(x), name)


def _moments(x: Float) -> Float:
    """x [tokens, in] -> [groups, size, size]."""
    width = -(-x.shape[1] // BLOCK_SIZE) * BLOCK_SIZE
    size = min(GROUP, width)
    groups = -(-width // size)
    padded = np.zeros((len(x), groups * size), np.float32)
    padded[:, : x.shape[1]] = x
    parts = padded.reshape(len(x), groups, size).swapaxes(0, 1)
    moments: Float = parts.swapaxes(1, 2) @ parts
    return moments
