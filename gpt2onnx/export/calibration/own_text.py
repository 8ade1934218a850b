"""Text that a model writes itself: as good for calibration as what it was trained on.

Tokens are drawn one by one from its own distribution, as in LLM-QAT (Liu 2023,
https://arxiv.org/abs/2305.17888), by numpy's forward pass with a KV cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gpt2onnx.export.calibration.forward_pass import Float, Forward, Ids
from gpt2onnx.export.checkpoint.checkpoint import HEAD, Weights, tensor_shapes
from gpt2onnx.export.checkpoint.config import Gpt2Config
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
    held = _Held(weights)
    shape = config.n_layer, 2, texts, config.n_head, length, config.head_dim
    cache = np.zeros(shape, np.float32)
    for place in track(range(1, length), "writing a text"):
        with np.errstate(all="ignore"):  # what comes of it is looked at
            reader = _Place(held, lambda name, x: None, cache[..., :place, :])
            logits = reader.read(ids[:, place - 1])
        ids[:, place] = draw(softmax(require_finite(logits, "logits, writing a text")), random)
    return ids


def softmax(logits: Float) -> Float:
    """Of the last axis."""
    p: Float = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return p


def draw(p: Float, random: np.random.Generator) -> Ids:
    """A token by each row's probabilities [rows, vocab]."""
    sums = np.cumsum(p, -1, dtype=np.float64)
    drawn: Ids = (sums < random.random((len(p), 1)) * sums[:, -1:]).sum(-1)
    return drawn


class _Held:
    """Weights that are read once."""

    def __init__(self, weights: Weights) -> None:
        self.config: Gpt2Config = weights.config
        self._tensors: Mapping[str, Float] = {
            name: weights.tensor(name) for name in tensor_shapes(self.config)
        }

    def tensor(self, name: str) -> Float:
        return self._tensors[name]


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
        head = weights.tensor("wte.weight" if weights.config.tie_word_embeddings else HEAD)
        logits: Float = self.norm(hidden, *self.pair("ln_f")) @ head.T
        return logits

    def attend(self, layer: int, query: Float, key: Float, value: Float) -> Float:
        """Each text's over its cache, of [texts, heads, head_dim] each -> [texts, n_embd]."""
        keys, values = self.cache[layer]
        keys[..., -1, :], values[..., -1, :] = key, value
        scores = keys @ query[..., None]
        attended = softmax(scores[..., 0])[..., None, :] @ values
        result: Float = attended.reshape(len(query), -1)
        return result
