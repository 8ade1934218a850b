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

from gpt2onnx.errors import ParameterError, WeightsError
from gpt2onnx.export.builder import GraphBuilder
from gpt2onnx.export.quantize import quantize_blocks, quantize_columns

Float = NDArray[np.float32]

PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic", "int4")
DEVICES = ("cpu", "cuda")

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
        matrix = store_blocks(op, name, weight.T, self.bits, self.dtype)
        return op.Add(matrix.multiply(x), op.vector(f"{name}.bias", cast(bias, self.dtype, name)))

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        return BlockTable(store_blocks(op, name, weight, 8, self.dtype))


@dataclass(frozen=True)
class Dynamic:
    """8-bit weights with a scale an output, 8-bit activations with a scale a token.

    Sums of integers are exact, so a token's result doesn't depend on what shares its batch. The
    fastest operator, DynamicQuantizeMatMul, has one scale for all tokens and loses just that. x86
    processors without VNNI add each two products in 16 bits, though, which now and then overflow:
    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """

    dtype: np.dtype[Any]

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        values, scales = quantize_columns(weight.T)
        stored = op.matrix(f"{name}.weight_q8", values)
        rounded, scale = quantize_tokens(op, x)
        one, middle = op.constant(1, np.float32), op.constant(128, np.uint8)
        column_scales = op.vector(f"{name}.weight_scales", scales)
        product = op.MatMulIntegerToFloat(rounded, stored, one, column_scales, middle)
        return op.Add(op.Mul(product, scale), op.vector(f"{name}.bias", bias))

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        return BlockTable(store_blocks(op, name, weight, 8, self.dtype))


@dataclass(frozen=True)
class BlockMatrix:
    """A matrix [out, width] that is stored in blocks: the names of its values and scales."""

    op: GraphBuilder
    values: str
    scales: str
    bits: int
    width: int
    out: int

    def multiply(self, x: str) -> str:
        """The dot product with every row: x [tokens, width] -> [tokens, out]."""
        return self.op.MatMulNBits(
            x,
            self.values,
            self.scales,
            K=self.width,
            N=self.out,
            bits=self.bits,
            block_size=BLOCK_SIZE,
            accuracy_level=ACCURACY_LEVEL,
        )


@dataclass(frozen=True)
class BlockTable:
    """A matrix of 8-bit blocks whose bytes serve the embedding, and MatMulNBits as the head."""

    matrix: BlockMatrix

    def gather(self, ids: str) -> str:
        op, matrix = self.matrix.op, self.matrix
        padded = -(-matrix.width // BLOCK_SIZE) * BLOCK_SIZE
        # GatherBlockQuantized wants [vocab, width] where MatMulNBits has [vocab, blocks, block].
        rows = op.view(f"{matrix.values}_rows", matrix.values, [matrix.out, padded])
        gathered = op.GatherBlockQuantized(
            rows, ids, matrix.scales, bits=8, block_size=BLOCK_SIZE, quantize_axis=1
        )
        if padded == matrix.width:
            return gathered
        start, end, axis = (op.constant([n], np.int64) for n in (0, matrix.width, 1))
        return op.Slice(gathered, start, end, axis)

    def project(self, hidden: str) -> str:
        return self.matrix.multiply(hidden)


def store_blocks(
    op: GraphBuilder, name: str, weight: Float, bits: int, dtype: np.dtype[Any]
) -> BlockMatrix:
    """Round weight [out, width] to blocks, with scales in the type of the activations."""
    check_range(weight, dtype, name)
    values, scales = quantize_blocks(weight, bits, BLOCK_SIZE, dtype)
    out, width = weight.shape
    stored = op.matrix(f"{name}.weight_q{bits}", values)
    return BlockMatrix(op, stored, op.matrix(f"{name}.weight_scales", scales), bits, width, out)


def quantize_tokens(op: GraphBuilder, x: str) -> tuple[str, str]:
    """x [tokens, width] -> uint8 of the same shape around 128, and scales [tokens, 1].

    Unsigned, because ONNX Runtime's kernels for signed activations are ten times slower. A token of
    nothing but zeros has the scale 0, which makes zeros again of whatever 0 / 0 was rounded to.
    """
    last = op.constant([-1], np.int64)
    largest = op.ReduceMax(op.Abs(x), last, keepdims=1)
    scale = op.Mul(largest, op.constant(1 / 127, np.float32))
    by_token = op.Reshape(scale, last)
    zero_point = op.Expand(op.constant([128], np.uint8), op.Shape(by_token))
    return op.QuantizeLinear(x, by_token, zero_point, axis=0), scale


def cast(value: Float, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """`value` in the type of the activations. Errors: WeightsError where it is beyond its range."""
    check_range(value, dtype, name)
    return value.astype(dtype, copy=False)


def check_range(value: Float, dtype: np.dtype[Any], name: str) -> None:
    """Raise WeightsError where a weight would become infinite."""
    largest = max(value.max(), -value.min())
    if largest > np.finfo(dtype).max:
        raise WeightsError(
            f"{name}: expected weights within {dtype}'s range, +-{np.finfo(dtype).max:.6g}, found "
            f"{largest:.6g}; export in fp32, or in int8 for device='cpu'"
        )


def choose(precision: str, device: str) -> Precision:
    """The recipe by its name, for the device that the model is made for.

    Errors: ParameterError where a name is unknown or the two don't go together.
    """
    if precision not in PRECISIONS:
        raise ParameterError(f"precision={precision!r}: expected one of {', '.join(PRECISIONS)}")
    if device not in DEVICES:
        raise ParameterError(f"device={device!r}: expected one of {', '.join(DEVICES)}")
    if device == "cuda" and precision in ("fp32", "int8-dynamic"):
        raise ParameterError(
            f"precision={precision!r} has no CUDA kernels in the fused graph: choose fp16, int8 or "
            "int4 with device='cuda', or graph='portable' with fp32"
        )
    half, single = np.dtype(np.float16), np.dtype(np.float32)
    activations = half if device == "cuda" else single
    recipes: dict[str, Precision] = {
        "fp32": Floating(single),
        "fp16": Floating(half),
        "int8": Blockwise(8, activations),
        "int8-dynamic": Dynamic(single),
        "int4": Blockwise(4, activations),
    }
    return recipes[precision]
