"""8-bit weights times activations that are quantized on the fly, one scale a token.

Knows operators and shapes: x is [tokens, width], a weight [width, out]. Activations are unsigned,
because ONNX Runtime's kernels for signed ones are ten times slower.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.quantization.rounding import quantize_columns
from gpt2onnx.export.writing.onnx_builder import GraphBuilder

Float = NDArray[np.float32]

MIDDLE = 128
# For activations that are hardly negative, as behind GELU: nearly all levels above zero.
LOW = 16
# One hidden unit of so many is among those that have a scale of their own.
LARGEST = 16


def multiply(op: GraphBuilder, name: str, x: str, weight: Float) -> str:
    """x [tokens, width] times weight [width, out] -> [tokens, out]."""
    rounded, scale, _ = quantize_tokens(op, x)
    return _product(op, name, rounded, _column(op, scale), weight)


def multiply_finely(op: GraphBuilder, name: str, x: str, weight: Float) -> str:
    """The same with 16 bits of activations.

    The rounding residual of x is rounded, too, and appended as extra rows of the same call, so that
    the weights are read once.
    """
    rounded, scale, zero = quantize_tokens(op, x)
    rest = op.Sub(x, op.DequantizeLinear(rounded, scale, zero, axis=0))
    # It is at most half a step.
    smaller = op.Mul(scale, op.constant(1 / 254, np.float32))
    second = op.QuantizeLinear(rest, smaller, zero, axis=0)
    both, scales = op.Concat(rounded, second, axis=0), op.Concat(scale, smaller, axis=0)
    product = _product(op, name, both, _column(op, scales), weight)
    return op.sum_of_halves(product, weight.shape[1])


def multiply_hidden(op: GraphBuilder, name: str, x: str, weight: Float) -> str:
    """The same for what comes from GELU, hardly negative, sorted so that the largest come first.

    Those few have a scale of their own, so that the others aren't rounded as coarsely.
    """
    few = len(weight) // LARGEST
    parts = np.split(weight, [few] if few else [])
    products = []
    for number, inputs in enumerate(op.split(x, [len(part) for part in parts])):
        rounded, scale, _ = quantize_tokens(op, inputs, LOW)
        scale, place = _column(op, scale), f"{name}.{number}"
        products.append(_product(op, place, rounded, scale, parts[number], LOW))
    return op.Sum(*products)


def _product(
    op: GraphBuilder, name: str, rounded: str, scale: str, weight: Float, zero_point: int = MIDDLE
) -> str:
    """Rounded [tokens, width] with their scales [tokens, 1], times weight [width, out]."""
    values, column_scales = quantize_columns(weight.T)
    product = op.MatMulIntegerToFloat(
        rounded,
        op.matrix(f"{name}.weight_q8", values),
        op.constant(1, np.float32),
        op.vector(f"{name}.weight_scales", column_scales),
        op.constant(zero_point, np.uint8),
    )
    return op.Mul(product, scale)


def _column(op: GraphBuilder, vector: str) -> str:
    return op.Unsqueeze(vector, op.constant([1], np.int64))


def quantize_tokens(op: GraphBuilder, x: str, zero_point: int = MIDDLE) -> tuple[str, str, str]:
    """x [tokens, width] -> uint8 of the same shape, scales [tokens] and zero points [tokens].

    A scale lets the largest value reach 255 or the smallest 0, whichever needs more; with MIDDLE
    both sides have 127 levels. A token of nothing but zeros has the scale 0, which makes zeros
    again of whatever 0 / 0 was rounded to.
    """
    above = 255 - zero_point
    below = min(zero_point, above)
    # As Abs, but negative values count for more the fewer levels they have.
    weighed = op.Abs(x) if above == below else op.LeakyRelu(x, alpha=-above / below)
    largest = op.ReduceMax(weighed, op.constant([-1], np.int64), keepdims=0)
    scale = op.Mul(largest, op.constant(1 / above, np.float32))
    zero = op.Expand(op.constant([zero_point], np.uint8), op.Shape(scale))
    return op.QuantizeLinear(x, scale, zero, axis=0), scale, zero
