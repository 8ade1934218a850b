"""GPT-2's backward pass in numpy, which reports the gradients of what each matrix reads and makes.

It is the gradient of the sum of -log p(y) over the tokens of a text, each y drawn from the model's
own distribution. The second moments of these gradients are the Fisher information: how much a
change of an input or an output changes the next tokens' distributions.

Each block is computed again from its input, which alone is kept (gradient checkpointing; Chen
2016, https://arxiv.org/abs/1604.06174). Knows nothing of rounding and nothing of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gpt2onnx.export.calibration.activations import NUMPY_ACTIVATIONS
from gpt2onnx.export.calibration.forward_pass import (
    Float,
    Forward,
    Ids,
    Watcher,
    probabilities,
    softmax,
)
from gpt2onnx.export.calibration.own_text import draw
from gpt2onnx.export.checkpoint.checkpoint import Weights, head_matrix
from gpt2onnx.export.checkpoint.floats import require_finite

# So many tokens' logits are held at once.
PART = 64


def watch_gradients(
    weights: Weights, windows: Ids, inputs: Watcher, outputs: Watcher
) -> Iterator[int]:
    """Tell two watchers the gradients of each matrix's input and output over a text.

    They are told "h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc" or "h.0.mlp.c_proj" with
    [windows * tokens, in], and [windows * tokens, out], over windows of ids [windows, tokens].
    Gives each layer's number once all of it is told, the last layer first.

    Raises WeightsError where numbers leave float32's range.
    """
    forward = Forward(weights, lambda name, x: None)
    backward = Backward(forward, inputs, outputs)
    read, hidden = block_inputs(forward, windows)
    with np.errstate(all="ignore"):  # what comes of it is looked at
        gradient = backward.head(hidden, np.random.default_rng(0))
    for layer in reversed(range(weights.config.n_layer)):
        with np.errstate(all="ignore"):
            for block in (backward.mlp, backward.attention):
                gradient = block(layer, read.pop(), gradient)
        yield layer


def block_inputs(forward: Forward, windows: Ids) -> tuple[list[Float], Float]:
    """What each attention and each feed-forward reads, and ln_f: [windows, tokens, n_embd] each."""
    inputs = []
    with np.errstate(all="ignore"):
        hidden = forward.embed(windows)
        for layer in range(forward.weights.config.n_layer):
            for block in (forward.attention, forward.mlp):
                inputs.append(hidden.copy())
                block(layer, hidden)
            require_finite(hidden, f"h.{layer}, reading a text")
    return inputs, hidden


@dataclass(frozen=True)
class Backward:
    """Forward's blocks, each from its input and the gradient of its output to its input's gradient.

    All three are [windows, tokens, n_embd].
    """

    forward: Forward
    inputs: Watcher
    outputs: Watcher

    def head(self, hidden: Float, random: np.random.Generator) -> Float:
        """The gradient of what ln_f reads."""
        matrix = head_matrix(self.forward.weights)
        norm = self.forward.pair("ln_f")
        gradient = self.forward.norm(hidden, *norm)
        for part in parts(gradient):
            part[...] = score(part @ matrix.T, random) @ matrix
        return self.norm(hidden, norm[0], gradient)

    def mlp(self, layer: int, hidden: Float, gradient: Float) -> Float:
        name = f"h.{layer}.mlp"
        norm = self.forward.pair(f"h.{layer}.ln_2")
        widen, project = self.forward.pair(f"{name}.c_fc"), self.forward.pair(f"{name}.c_proj")
        activation = NUMPY_ACTIVATIONS[self.forward.weights.config.activation_function]
        before = self.forward.norm(hidden, *norm) @ widen[0] + widen[1]
        inner = self.through(f"{name}.c_proj", gradient, project[0])
        for part, x in zip(parts(inner), parts(before), strict=True):
            part *= derivative(activation, x)
        read = self.through(f"{name}.c_fc", inner, widen[0])
        return gradient + self.norm(hidden, norm[0], read)

    def attention(self, layer: int, hidden: Float, gradient: Float) -> Float:
        name, config = f"h.{layer}.attn", self.forward.weights.config
        norm = self.forward.pair(f"h.{layer}.ln_1")
        attend, project = self.forward.pair(f"{name}.c_attn"), self.forward.pair(f"{name}.c_proj")
        made: Float = self.forward.norm(hidden, *norm) @ attend[0] + attend[1]
        attended = self.through(f"{name}.c_proj", gradient, project[0])
        heads = made.reshape(*made.shape[:2], 3, config.n_head, config.head_dim)
        attended = attended.reshape(*made.shape[:2], config.n_head, config.head_dim)
        for window, head in np.ndindex(len(made), config.n_head):
            query, key, value = part = heads[window, :, :, head].swapaxes(0, 1)
            part[...] = attention_gradients(  # takes the place of what it is the gradient of
                query, key, value, attended[window, :, head], config.scale(layer)
            )
        read = self.through(f"{name}.c_attn", made, attend[0])
        return gradient + self.norm(hidden, norm[0], read)

    def norm(self, x: Float, gain: Float, gradient: Float) -> Float:
        """Layer normalization's."""
        centred = x - x.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        deviation = np.sqrt(variance + np.float32(self.forward.weights.config.layer_norm_epsilon))
        unit, scaled = centred / deviation, gradient * gain
        along = unit * np.multiply(unit, scaled).mean(-1, keepdims=True)
        result: Float = (scaled - scaled.mean(-1, keepdims=True) - along) / deviation
        return result

    def through(self, name: str, gradient: Float, matrix: Float) -> Float:
        """From the gradient of a matrix's output, [windows, tokens, out], that of its input."""
        read: Float = gradient @ matrix.T
        for watcher, some in ((self.outputs, gradient), (self.inputs, read)):
            require_finite(some, f"{name}, a text's gradients")
            watcher(name, some.reshape(-1, some.shape[-1]))
        return read


def parts(x: Float) -> Iterator[Float]:
    """[windows, tokens, n] -> views of [at most PART tokens, n]."""
    rows = x.reshape(-1, x.shape[-1])
    return (rows[start : start + PART] for start in range(0, len(rows), PART))


def score(logits: Float, random: np.random.Generator) -> Float:
    """The gradient of -log p(y) by logits [tokens, vocab], for a y drawn from each token's p."""
    p = softmax(logits)
    p[np.arange(len(p)), draw(p, random)] -= 1
    return p


def attention_gradients(
    query: Float, key: Float, value: Float, gradient: Float, scale: float
) -> tuple[Float, Float, Float]:
    """A head's gradients of queries, keys and values, of that of its output; [tokens, head_dim]."""
    query = np.multiply(query, np.float32(scale))
    p = probabilities(query, key)
    scores: Float = gradient @ value.T
    scores -= np.einsum("ij,ij->i", scores, p)[:, None]
    scores *= p
    return np.multiply(scores @ key, np.float32(scale)), scores.T @ query, p.T @ gradient


def derivative(activation: Callable[[Float], Float], x: Float) -> Float:
    """Of [...], by central differences: within 1e-3, and no formula for each activation.

    The step grows with x, beside which it would be lost.
    """
    step = np.multiply(np.float32(2**-10), 1 + np.abs(x))
    low, high = x - step, x + step
    result: Float = (activation(high) - activation(low)) / (high - low)
    return result
