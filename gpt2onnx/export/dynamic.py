"""8-bit weights times activations that are rounded to 8 bits as they come, a scale a token.

Knows operators and shapes: x is [tokens, width], a weight [width, out]. Activations are unsigned,
because ONNX Runtime's kernels for signed ones are ten times slower.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.builder import GraphBuilder
from gpt2onnx.export.quantize import quantize_columns

MIDDLE = 128
# For activations that are hardly negative, as behind GELU: nearly all levels above zero.
LOW = 16


def multiply(
    op: GraphBuilder,
    name: str,
    x: str,
    weight: NDArray[np.float32],
    zero_point: int = MIDDLE,
    fine: bool = False,
) -> str:
    """x [tokens, width] times weight [width, out] -> [tokens, out].

    fine: what rounding x leaves is rounded as well and multiplied in the same call, as further
    rows: 16 bits of activations, and the weights are read once. It goes with MIDDLE.
    """
    values, scales = quantize_columns(weight.T)
    stored = op.matrix(f"{name}.weight_q8", values)
    column_scales = op.vector(f"{name}.weight_scales", scales)
    rounded, scale, zero = quantize_tokens(op, x, zero_point)
    if fine:
        rounded, scale = _with_rest(op, x, rounded, scale, zero)
    one, shift = op.constant(1, np.float32), op.constant(zero_point, np.uint8)
    product = op.MatMulIntegerToFloat(rounded, stored, one, column_scales, shift)
    product = op.Mul(product, op.Unsqueeze(scale, op.constant([1], np.int64)))
    if not fine:
        return product
    halves = op.Reshape(product, op.constant([2, -1, weight.shape[1]], np.int64))
    return op.ReduceSum(halves, op.constant([0], np.int64), keepdims=0)


def _with_rest(op: GraphBuilder, x: str, rounded: str, scale: str, zero: str) -> tuple[str, str]:
    """Behind x's rows those of what rounding left: at most half a step, so its scale is known."""
    rest = op.Sub(x, op.DequantizeLinear(rounded, scale, zero, axis=0))
    smaller = op.Mul(scale, op.constant(1 / 254, np.float32))
    second = op.QuantizeLinear(rest, smaller, zero, axis=0)
    return op.Concat(rounded, second, axis=0), op.Concat(scale, smaller, axis=0)


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
