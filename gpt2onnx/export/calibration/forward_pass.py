"""GPT-2's forward pass in numpy, which reports what each matrix multiplies.

In single precision, layer by layer over all windows of the text, so that each weight is
read once and memory holds one activation a token. Knows nothing of rounding and nothing of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.calibration.activations import NUMPY_ACTIVATIONS
from gpt2onnx.export.checkpoint.checkpoint import Weights
from gpt2onnx.export.checkpoint.floats import require_finite

Float = NDArray[np.float32]
Ids = NDArray[np.int64]

Watcher = Callable[[str, Float], None]
"""Is told, a window at a time: "h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc",
"h.0.mlp.c_proj" or "lm_head" with that matrix's input [tokens, in]; "h.0.attn.key" or
"h.0.attn.value" with what goes to the cache, [tokens, heads, head_dim]."""


def watch(weights: Weights, windows: Ids, watcher: Watcher) -> None:
    """Tell `watcher` everything that windows of ids [windows, tokens] make each matrix read.

    Each window is a text of its own, from position 0; it has at most n_positions tokens.
    """
    for _ in watch_layers(weights, windows, watcher):
        pass


def watch_layers(weights: Weights, windows: Ids, watcher: Watcher) -> Iterator[int]:
    """The same, giving each layer's number once all of it is told, and n_layer after the head.

    Raises WeightsError where a layer's numbers leave float32's range.
    """
    forward = Forward(weights, watcher)
    with np.errstate(all="ignore"):  # what comes of it is looked at
        hidden = forward.embed(windows)
    for layer in range(weights.config.n_layer):
        with np.errstate(all="ignore"):
            forward.layer(layer, hidden)
        require_finite(hidden, f"h.{layer}, reading a text")
        yield layer
    gain, bias = forward.pair("ln_f")
    for window in hidden:
        watcher("lm_head", forward.norm(window, gain, bias))
    yield weights.config.n_layer


def cut(ids: Ids, count: int, tokens: int) -> Ids:
    """At most `count` windows [count, tokens] from all over a text's ids [n].

    A text shorter than a window is one shorter window.
    """
    tokens = min(tokens, len(ids))
    count = min(count, len(ids) // tokens)
    starts = np.linspace(0, len(ids) - tokens, count).astype(np.int64)
    return np.take(ids, starts[:, None] + np.arange(tokens))


@dataclass(frozen=True)
class Forward:
    """GPT2LMHeadModel.forward but for the head's product; the shapes are transformers'."""

    weights: Weights
    watcher: Watcher

    def embed(self, windows: Ids) -> Float:
        """ids [windows, tokens] -> [windows, tokens, n_embd]."""
        positions = self.weights.tensor("wpe.weight")[: windows.shape[1]]
        return self.weights.tensor("wte.weight")[windows] + positions

    def layer(self, layer: int, hidden: Float) -> None:
        """Advance hidden [windows, tokens, n_embd] in place."""
        for block in (self.attention, self.mlp):
            block(layer, hidden)

    def attention(self, layer: int, hidden: Float) -> None:
        name = f"h.{layer}.attn"
        norm = self.pair(f"h.{layer}.ln_1")
        attend, project = self.pair(f"{name}.c_attn"), self.pair(f"{name}.c_proj")
        for window in hidden:
            x = self.norm(window, *norm)
            self.watcher(f"{name}.c_attn", x)
            heads = self.weights.config.n_head, self.weights.config.head_dim
            query, key, value = (
                (x @ attend[0] + attend[1]).reshape(len(x), 3, *heads).swapaxes(0, 1)
            )
            self.watcher(f"{name}.key", key)
            self.watcher(f"{name}.value", value)
            x = self.attend(layer, query * np.float32(self.weights.config.scale(layer)), key, value)
            self.watcher(f"{name}.c_proj", x)
            window += x @ project[0] + project[1]

    def mlp(self, layer: int, hidden: Float) -> None:
        name = f"h.{layer}.mlp"
        norm = self.pair(f"h.{layer}.ln_2")
        widen, project = self.pair(f"{name}.c_fc"), self.pair(f"{name}.c_proj")
        activation = NUMPY_ACTIVATIONS[self.weights.config.activation_function]
        for window in hidden:
            x = self.norm(window, *norm)
            self.watcher(f"{name}.c_fc", x)
            x = activation(x @ widen[0] + widen[1])
            self.watcher(f"{name}.c_proj", x)
            window += x @ project[0] + project[1]

    def attend(self, layer: int, query: Float, key: Float, value: Float) -> Float:
        """Causal attention over [tokens, heads, head_dim] each -> [tokens, n_embd].

        A head at a time, whose probabilities the processor's cache holds.
        """
        heads = zip(*(part.swapaxes(0, 1) for part in (query, key, value)), strict=True)
        attended = np.stack([probabilities(q, k) @ v for q, k, v in heads], axis=1)
        return attended.reshape(len(query), -1)

    def norm(self, x: Float, gain: Float, bias: Float) -> Float:
        """Layer normalization of [tokens, n_embd]."""
        centred = x - x.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        epsilon = np.float32(self.weights.config.layer_norm_epsilon)
        result: Float = centred / np.sqrt(variance + epsilon) * gain + bias
        return result

    def pair(self, name: str) -> tuple[Float, Float]:
        return self.weights.tensor(f"{name}.weight"), self.weights.tensor(f"{name}.bias")


def probabilities(query: Float, key: Float) -> Float:
    """A head's causal attention: scaled queries and keys [tokens, head_dim] -> [tokens, tokens]."""
    scores: Float = query @ key.T
    np.copyto(scores, -np.inf, where=~np.tri(len(scores), dtype=bool))
    return softmax(scores)


def softmax(logits: Float) -> Float:
    """Of the last axis."""
    p: Float = logits - logits.max(-1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(-1, keepdims=True)
    return p
