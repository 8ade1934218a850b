"""The activation functions of transformers' ACT2FN as ONNX operators.

Each takes the builder, the value [..., width] and its type, and gives the value's name.
https://github.com/huggingface/transformers/blob/main/src/transformers/activations.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpt2onnx.export.writing.onnx_builder import GraphBuilder

Activation = Callable[[GraphBuilder, str, np.dtype[Any]], str]


def gelu(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    """x * Phi(x), by the error function."""
    return op.Gelu(x, approximate="none")


def gelu_tanh(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    """GELU by its tanh approximation, GPT-2's own (Hendrycks & Gimpel 2016)."""
    return op.FastGelu(x)


def clipped_gelu(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    """GELU kept within -10 and 10."""
    return _clip(op, gelu(op, x, dtype), -10, 10, dtype)


def quick_gelu(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    """x * sigmoid(1.702 x)."""
    return op.QuickGelu(x, alpha=1.702)


def silu(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    """x * sigmoid(x)."""
    return op.QuickGelu(x, alpha=1.0)


def mish(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    """x * tanh(log(1 + exp(x)))."""
    return op.Mul(x, op.Tanh(op.Softplus(x)))


def laplace(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    """The Gaussian error function of Mega (Ma 2022): mean sqrt(1/2), deviation sqrt(1 / (4 pi))."""
    mean, width = (op.constant(n, dtype) for n in (0.707107, 0.282095 * 2**0.5))
    one, half = (op.constant(n, dtype) for n in (1, 0.5))
    return op.Mul(half, op.Add(one, op.Erf(op.Div(op.Sub(x, mean), width))))


def relu(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    return op.Relu(x)


def relu2(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    """The square of relu (So 2021)."""
    positive = op.Relu(x)
    return op.Mul(positive, positive)


def relu6(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    return _clip(op, x, 0, 6, dtype)


def leaky_relu(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    return op.LeakyRelu(x, alpha=0.01)


def sigmoid(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    return op.Sigmoid(x)


def tanh(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    return op.Tanh(x)


def linear(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    return x


def _clip(op: GraphBuilder, x: str, low: float, high: float, dtype: np.dtype[Any]) -> str:
    return op.Clip(x, op.constant(low, dtype), op.constant(high, dtype))


ACTIVATIONS: dict[str, Activation] = {
    "gelu": gelu,
    "gelu_10": clipped_gelu,
    "gelu_accurate": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_python": gelu,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "laplace": laplace,
    "leaky_relu": leaky_relu,
    "linear": linear,
    "mish": mish,
    "quick_gelu": quick_gelu,
    "relu": relu,
    "relu2": relu2,
    "relu6": relu6,
    "sigmoid": sigmoid,
    "silu": silu,
    "swish": silu,
    "tanh": tanh,
}
