"""transformers' activation functions (ACT2FN) in numpy.

https://github.com/huggingface/transformers/blob/main/src/transformers/activations.py
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

# Abramowitz & Stegun 7.1.26, within 1.5e-7: numpy has no error function.
ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def erf(x: Float) -> Float:
    """The error function of [...]."""
    t = np.reciprocal(1 + np.float32(0.3275911) * np.abs(x))
    series = np.zeros_like(t)
    for factor in reversed(ERF):
        series = np.multiply(series + np.float32(factor), t)
    result: Float = np.copysign(1 - series * np.exp(-x * x), x)
    return result


def sigmoid(x: Float) -> Float:
    """By tanh, which doesn't overflow."""
    result: Float = np.multiply(1 + np.tanh(x * np.float32(0.5)), np.float32(0.5))
    return result


def gelu(x: Float) -> Float:
    result: Float = np.multiply(np.float32(0.5) * x, 1 + erf(x * np.float32(0.5**0.5)))
    return result


def gelu_tanh(x: Float) -> Float:
    inner = np.float32((2 / math.pi) ** 0.5) * (x + np.float32(0.044715) * x * x * x)
    result: Float = np.multiply(np.float32(0.5) * x, 1 + np.tanh(inner))
    return result


def quick_gelu(x: Float) -> Float:
    return x * sigmoid(np.float32(1.702) * x)


def silu(x: Float) -> Float:
    return x * sigmoid(x)


def mish(x: Float) -> Float:
    return x * np.tanh(np.logaddexp(x, np.float32(0)))


def laplace(x: Float) -> Float:
    scaled = (x - np.float32(0.707107)) / np.float32(0.282095 * 2**0.5)
    result: Float = np.multiply(1 + erf(scaled), np.float32(0.5))
    return result


def relu(x: Float) -> Float:
    return np.maximum(x, np.float32(0))


NUMPY_ACTIVATIONS: dict[str, Callable[[Float], Float]] = {
    "gelu": gelu,
    "gelu_10": lambda x: np.clip(gelu(x), np.float32(-10), np.float32(10)),
    "gelu_accurate": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_python": gelu,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "laplace": laplace,
    "leaky_relu": lambda x: np.maximum(x, np.float32(0.01) * x),
    "linear": lambda x: x,
    "mish": mish,
    "quick_gelu": quick_gelu,
    "relu": relu,
    "relu2": lambda x: relu(x) ** 2,
    "relu6": lambda x: np.clip(x, np.float32(0), np.float32(6)),
    "sigmoid": sigmoid,
    "silu": silu,
    "swish": silu,
    "tanh": np.tanh,
}
