"""How a matrix is stored and multiplied: fp32, fp16, int8, int8-dynamic and int4.

Knows matrices, and the operators that multiply them; knows nothing of attention or layers.
Activations are rows, [tokens, width]. A `Precision` answers two questions: what becomes of a linear
layer, and what becomes of the embedding table, which the language model head reads a second time.

The operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import ParameterError, UnsupportedConfigError, WeightsError
from gpt2onnx.export.builder import GraphBuilder
from gpt2onnx.export.quantize import quantize_blocks, quantize_columns

Float = NDArray[np.float32]

# With one scale for 32 weights, rows come out bit-identical at every batch size; with 128 not.
BLOCK_SIZE = 32
# MatMulNBits rounds activations to 8 bits; without this its CPU kernel is 100 times slower.
ACCURACY_LEVEL = 4


class Table(Protocol):
    """A matrix [vocab, width] that is read by row and multiplied with."""

    def gather(self, ids: str) -> str:
        """Rows by number: ids [tokens] -> [tokens, width]."""

    def project(self, hidden: str) -> str:
        """The dot product with every row: hidden [count, width] -> [count, vocab]."""


class Precision(Protocol):
    """What becomes of matrices, and the type of the activations between them."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of activations and of the KV cache."""

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        """x [tokens, in] times weight [in, out] plus bias [out] -> [tokens, out]."""

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        """The embedding table, weight [vocab, width]."""


@dataclass(frozen=True)
class Floating:
    """Matrices as they are, in single or half precision."""

    dtype: np.dtype[Any]

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        stored = op.matrix(f"{name}.weight", cast(weight, self.dtype, name))
        return op.Gemm(x, stored, op.vector(f"{name}.bias", cast(bias, self.dtype, name)))

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        return FloatTable(op, op.matrix(f"{name}.weight", cast(weight, self.dtype, name)))


@dataclass(frozen=True)
class FloatTable:
    """One matrix serves the embedding by row and, transposed by Gemm, the head."""

    op: GraphBuilder
    weight: str

    def gather(self, ids: str) -> str:
        return self.op.Gather(self.weight, ids)

    def project(self, hidden: str) -> str:
        return self.op.Gemm(hidden, self.weight, transB=1)


@dataclass(frozen=True)
class Blockwise:
    """Weights in blocks of 32 with a scale each; the embedding table always in 8 bits."""

    bits: int
    dtype: np.dtype[Any]

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        values, scales = quantize_blocks(weight.T, self.bits, BLOCK_SIZE)
        stored = op.matrix(f"{name}.weight_q{self.bits}", values)
        scale = op.matrix(f"{name}.weight_scales", scales.astype(self.dtype))
        width, out = weight.shape
        product = multiply_blocks(op, x, stored, scale, self.bits, width, out)
        return op.Add(product, op.vector(f"{name}.bias", cast(bias, self.dtype, name)))

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        return block_table(op, name, weight, self.dtype)


@dataclass(frozen=True)
class Dynamic:
    """8-bit weights with a scale an output, 8-bit activations with a scale a token.

    Sums of integers are exact, so a token's result doesn't depend on what shares its batch. The
    fastest operator, DynamicQuantizeMatMul, has one scale for all tokens and loses just that.
    """

    dtype: np.dtype[Any]

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        values, scales = quantize_columns(weight.T)
        stored = op.matrix(f"{name}.weight_q8", values)
        rounded, scale = quantize_tokens(op, x)
        one, middle = op.constant(np.float32(1)), op.constant(np.uint8(128))
        column_scales = op.vector(f"{name}.weight_scales", scales)
        product = op.MatMulIntegerToFloat(rounded, stored, one, column_scales, middle)
        return op.Add(op.Mul(product, scale), op.vector(f"{name}.bias", bias))

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        return block_table(op, name, weight, self.dtype)


@dataclass(frozen=True)
class BlockTable:
    """8-bit blocks whose bytes serve both GatherBlockQuantized and MatMulNBits.

    The two operators want them in different shapes, [vocab, width] and [vocab, blocks, block].
    """

    op: GraphBuilder
    rows: str
    blocks: str
    scales: str
    vocab: int
    width: int

    def gather(self, ids: str) -> str:
        op = self.op
        gathered = op.GatherBlockQuantized(
            self.rows, ids, self.scales, bits=8, block_size=BLOCK_SIZE, quantize_axis=1
        )
        if self.width % BLOCK_SIZE == 0:
            return gathered
        start, end, axis = (op.constant(np.array([n], np.int64)) for n in (0, self.width, 1))
        return op.Slice(gathered, start, end, axis)

    def project(self, hidden: str) -> str:
        return multiply_blocks(self.op, hidden, self.blocks, self.scales, 8, self.width, self.vocab)


def block_table(op: GraphBuilder, name: str, weight: Float, dtype: np.dtype[Any]) -> BlockTable:
    """Store weight [vocab, width] in 8-bit blocks, once."""
    vocab, width = weight.shape
    values, scales = quantize_blocks(weight, 8, BLOCK_SIZE)
    blocks = op.matrix(f"{name}.weight_q8", values)
    rows = op.view(f"{name}.weight_q8_rows", blocks, [vocab, values[0].size])
    scale = op.matrix(f"{name}.weight_scales", scales.astype(dtype))
    return BlockTable(op, rows, blocks, scale, vocab, width)


def multiply_blocks(
    op: GraphBuilder, x: str, values: str, scales: str, bits: int, width: int, out: int
) -> str:
    """x [tokens, width] times a matrix of blocks [out, width] -> [tokens, out]."""
    return op.MatMulNBits(
        x,
        values,
        scales,
        K=width,
        N=out,
        bits=bits,
        block_size=BLOCK_SIZE,
        accuracy_level=ACCURACY_LEVEL,
    )


def quantize_tokens(op: GraphBuilder, x: str) -> tuple[str, str]:
    """x [tokens, width] -> uint8 of the same shape around 128, and scales [tokens, 1].

    Unsigned, because ONNX Runtime's kernels for signed activations are ten times slower.
    """
    last = op.constant(np.array([-1], np.int64))
    largest = op.ReduceMax(op.Abs(x), last, keepdims=1)
    # The floor keeps a row of zeros from being divided by zero.
    largest = op.Max(largest, op.constant(np.float32(1e-30)))
    scale = op.Mul(largest, op.constant(np.float32(1 / 127)))
    by_token = op.Reshape(scale, last)
    zero_point = op.Expand(op.constant(np.array([128], np.uint8)), op.Shape(by_token))
    return op.QuantizeLinear(x, by_token, zero_point, axis=0), scale


def cast(value: Float, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """`value` in the type of the activations; a weight beyond half precision's range is refused."""
    if value.dtype == dtype:
        return value
    with np.errstate(over="ignore"):
        converted = value.astype(dtype)
    if not np.isfinite(converted).all():
        raise WeightsError(
            f"{name}: largest magnitude {np.abs(value).max():.6g} exceeds {dtype}'s "
            f"{np.finfo(dtype).max:.6g}; export with --precision fp32 or int8"
        )
    return converted


PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic", "int4")
DEVICES = ("cpu", "cuda")


def choose(precision: str, device: str) -> Precision:
    """The recipe by its name, for the device that the model is made for.

    Errors: ParameterError where a name is unknown or the two don't go together.
    """
    if precision not in PRECISIONS:
        raise ParameterError(f"precision={precision!r}: expected one of {', '.join(PRECISIONS)}")
    if device not in DEVICES:
        raise ParameterError(f"device={device!r}: expected one of {', '.join(DEVICES)}")
    if device == "cuda" and precision in ("fp32", "int8-dynamic"):
        raise UnsupportedConfigError(
            f"precision={precision!r} has no CUDA kernels in the fused graph; "
            "for device='cuda' choose fp16, int8 or int4, or graph='portable' for fp32"
        )
    half = np.dtype(np.float16)
    activations = half if device == "cuda" else np.dtype(np.float32)
    recipes: dict[str, Precision] = {
        "fp32": Floating(np.dtype(np.float32)),
        "fp16": Floating(half),
        "int8": Blockwise(8, activations),
        "int8-dynamic": Dynamic(np.dtype(np.float32)),
        "int4": Blockwise(4, activations),
    }
    return recipes[precision]
