"""Text that a model writes itself: as good for calibration as what it was trained on.

Tokens are drawn one by one from its own distribution, as in LLM-QAT (Liu 2023,
https://arxiv.org/abs/2305.17888), by numpy's forward pass with a KV cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpt2onnx.export.calibration.forward_pass import Float, Forward, Ids, softmax
from gpt2onnx.export.checkpoint.checkpoint import Arrays, Weights, head_matrix, tensor_shapes
from gpt2onnx.export.checkpoint.floats import require_finite
from gpt2onnx.export.writing.progress import Track, silent

# A text's, or what a model has positions for. Longer ones did no better and take longer.
TOKENS = 128


def write_texts(weights: Weights, tokens: int, track: Track = silent) -> Ids:
    """Texts of at least so many tokens together: ids [texts, at most TOKENS].

    Each is drawn from a random token on.

    Raises WeightsError where numbers leave float32's range.
    """
    config, random = weights.config, np.random.default_rng(0)
    length = min(TOKENS, config.n_positions)
    texts = -(-tokens // length)
    ids = np.empty((texts, length), np.int64)
    ids[:, 0] = random.integers(config.vocab_size, size=texts)
    held = Arrays(config, {name: weights.tensor(name) for name in tensor_shapes(config)})
    shape = config.n_layer, 2, texts, config.n_head, length, config.head_dim
    cache = np.zeros(shape, np.float32)
    for place in track(range(1, length), "writing a text"):
        with np.errstate(all="ignore"):  # what comes of it is looked at
            reader = _Place(held, lambda name, x: None, cache[..., :place, :])
            logits = reader.read(ids[:, place - 1])
        ids[:, place] = draw(softmax(require_finite(logits, "logits, writing a text")), random)
    return ids


def draw(p: Float, random: np.random.Generator) -> Ids:
    """A token by each row's probabilities [rows, vocab]."""
    sums = np.cumsum(p, -1, dtype=np.float64)
    drawn: Ids = (sums < random.random((len(p), 1)) * sums[:, -1:]).sum(-1)
    return drawn


@dataclass(frozen=True)
class _Place(Forward):
    """Reads the token at one place of each text, all of them as one window.

    cache: keys and values, [n_layer, 2, texts, heads, tokens, head_dim], up to this place
    """

    cache: Float

    def read(self, ids: Ids) -> Float:
        """ids [texts] -> logits [texts, vocab]."""
        weights, place = self.weights, self.cache.shape[-2] - 1
        hidden = weights.tensor("wte.weight")[ids] + weights.tensor("wpe.weight")[place]
        for layer in range(weights.config.n_layer):
            self.layer(layer, hidden[None])
        logits: Float = self.norm(hidden, *self.pair("ln_f")) @ head_matrix(weights).T
        return logits

    def attend(self, layer: int, query: Float, key: Float, value: Float) -> Float:
        """Each text's over its cache, of [texts, heads, head_dim] each -> [texts, n_embd]."""
        keys, values = self.cache[layer]
        keys[..., -1, :], values[..., -1, :] = key, value
        scores = keys @ query[..., None]
        attended = softmax(scores[..., 0])[..., None, :] @ values
        result: Float = attended.reshape(len(query), -1)
        return result
