"""A matrix of 8- or 4-bit blocks: how it is stored, and the operators that read it.

MatMulNBits rounds activations to 8 bits with a scale for each block; an embedding reads rows of the
same bytes. Knows operators and shapes; knows nothing of layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from gpt2onnx.errors import Advised, WeightsError
from gpt2onnx.export.quantization.gptq import DAMPING, quantize_gptq
from gpt2onnx.export.quantization.rounding import SMALLEST_SCALE, quantize_blocks
from gpt2onnx.export.writing.onnx_builder import GraphBuilder

Float = NDArray[np.float32]

# How many weights have one scale. MatMulNBits gives rows the same bits at every batch size with 32
# or 64, but not with 128.
BLOCK_SIZE, LONG_BLOCK_SIZE = 32, 64
# The level of 8 bits that stands for zero.
MIDDLE = 128
# MatMulNBits rounds activations to 8 bits; without this its CPU kernel is 100 times slower.
ACCURACY_LEVEL = 4


@dataclass(frozen=True)
class BlockMatrix:
    """A matrix [out, width] that is stored in blocks: the names of its values and scales."""

    op: GraphBuilder
    values: str
    scales: str
    bits: int
    width: int
    out: int
    block_size: int = BLOCK_SIZE

    @property
    def padded(self) -> int:
        """The width that the blocks have together: the last one is filled up with zeros."""
        return -(-self.width // self.block_size) * self.block_size

    def multiply(self, x: str) -> str:
        """The dot product with every row: x [..., width] -> [..., out]."""
        return self._multiply(x, self.width)

    def _multiply(self, x: str, width: int) -> str:
        return self.op.MatMulNBits(
            x,
            self.values,
            self.scales,
            K=width,
            N=self.out,
            bits=self.bits,
            block_size=self.block_size,
            accuracy_level=ACCURACY_LEVEL,
        )

    def multiply_finely(self, x: str) -> str:
        """The same with 16 bits of x [tokens, width], where the operator rounds: on the CPU.

        The rounding residual of x is appended as extra rows of the same call, which reads the
        weights once. The first part is on the operator's own grid: it isn't rounded again.
        """
        op = self.op
        blocks = op.Reshape(self._filled_up(x), op.constant([0, -1, self.block_size], np.int64))
        first = round_activations(op, blocks)
        both = op.Concat(first, op.Sub(blocks, first), axis=0)
        rows = op.Reshape(both, op.constant([-1, self.padded], np.int64))
        product = self._multiply(rows, self.padded)
        return op.sum_of_halves(product, self.out)

    def _filled_up(self, x: str) -> str:
        """x [..., width] -> [..., padded]."""
        if self.padded == self.width:
            return x
        op = self.op
        pads = op.constant([0, self.padded - self.width], np.int64)
        return op.Pad(x, pads, "", op.constant([-1], np.int64))

    def cut(self, x: str) -> str:
        """x [..., padded] -> [..., width]."""
        if self.padded == self.width:
            return x
        op = self.op
        start, end, axis = (op.constant([n], np.int64) for n in (0, self.width, -1))
        return op.Slice(x, start, end, axis)


class StandardBlockMatrix(BlockMatrix):
    """The same in standard operators; ONNX Runtime makes them MatMulNBits again.

    Its values are int8 [padded, out], its scales [blocks, out].
    """

    def multiply(self, x: str) -> str:
        """The dot product with every row: x [..., width] -> [..., out]."""
        return self._multiply(self._filled_up(x), self.padded)

    def _multiply(self, x: str, width: int) -> str:
        grid = {"axis": 0, "block_size": self.block_size}
        return self.op.MatMul(x, self.op.DequantizeLinear(self.values, self.scales, **grid))


def round_activations(op: GraphBuilder, blocks: str) -> str:
    """blocks [tokens, blocks, block] -> the same shape, each block on 8 bits of its own scale.

    The floor keeps a block of nothing but zeros from being divided by zero.
    """
    largest = op.ReduceMax(op.Abs(blocks), op.constant([-1], np.int64), keepdims=1)
    scales = op.Mul(largest, op.constant(1 / 127, np.float32))
    scales = op.Max(scales, op.constant(SMALLEST_SCALE, np.float32))
    return op.Mul(op.Round(op.Div(blocks, scales)), scales)


@dataclass(frozen=True)
class BlockTable:
    """A matrix of 8-bit blocks whose bytes serve the embedding, and MatMulNBits as the head.

    Rows are gathered before they are multiplied out, in operators that every provider has: the
    browser's has no GatherBlockQuantized, which takes no less time on the CPU.
    """

    matrix: BlockMatrix

    def gather(self, ids: str) -> str:
        op, matrix = self.matrix.op, self.matrix
        last = op.constant([-1], np.int64)
        levels = op.Cast(op.Gather(matrix.values, ids), to=TensorProto.FLOAT)
        if matrix.bits == 4:
            levels = self._apart(levels)
        steps = op.Sub(levels, op.constant(2 ** (matrix.bits - 1), np.float32))
        rows = op.Mul(steps, op.Unsqueeze(op.Gather(matrix.scales, ids), last))
        return matrix.cut(op.Reshape(rows, op.constant([-1, matrix.padded], np.int64)))

    def _apart(self, pairs: str) -> str:
        """Two levels of 4 bits from each byte, the low half first: [..., n] -> [..., 2 * n]."""
        op = self.matrix.op
        high = op.Floor(op.Mul(pairs, op.constant(1 / 16, np.float32)))
        low = op.Sub(pairs, op.Mul(high, op.constant(16, np.float32)))
        last = op.constant([-1], np.int64)
        both = op.Concat(op.Unsqueeze(low, last), op.Unsqueeze(high, last), axis=-1)
        return op.Reshape(both, op.constant([0, 0, -1], np.int64))

    def project(self, hidden: str) -> str:
        return self.matrix.multiply(hidden)


@dataclass(frozen=True)
class SplitTable:
    """A table whose first rows have other bits than the rest."""

    first: BlockTable
    rest: BlockTable

    def gather(self, ids: str) -> str:
        """Of each id both give a row, one of which counts."""
        op, count = self.first.matrix.op, self.first.matrix.out
        size, last, zero = (op.constant(n, np.int64) for n in (count, count - 1, 0))
        rows = self.first.gather(op.Min(ids, last))
        others = self.rest.gather(op.Max(op.Sub(ids, size), zero))
        is_first = op.Unsqueeze(op.Less(ids, size), op.constant([-1], np.int64))
        return op.Where(is_first, rows, others)

    def project(self, hidden: str) -> str:
        op = self.first.matrix.op
        return op.Concat(self.first.project(hidden), self.rest.project(hidden), axis=-1)


class CudaBlockTable(BlockTable):
    """The same on CUDA, where one kernel gathers and multiplies out."""

    def gather(self, ids: str) -> str:
        op, matrix = self.matrix.op, self.matrix
        # GatherBlockQuantized wants [vocab, width] where MatMulNBits has [vocab, blocks, block].
        rows = op.view(f"{matrix.values}_rows", matrix.values, [matrix.out, matrix.padded])
        gathered = op.GatherBlockQuantized(
            rows, ids, matrix.scales, bits=8, block_size=matrix.block_size, quantize_axis=1
        )
        return matrix.cut(gathered)


def store_blocks(
    op: GraphBuilder,
    name: str,
    weight: Float,
    bits: int,
    dtype: np.dtype[Any],
    moments: Float | None = None,
    gradients: Float | None = None,
    block_size: int = BLOCK_SIZE,
    damping: float = DAMPING,
) -> BlockMatrix:
    """Round weight [out, width] to blocks, with scales in the type of the activations."""
    check_range(weight, dtype, name)
    if moments is None:
        values, scales = quantize_blocks(weight, bits, block_size, dtype)
    else:
        values, scales = quantize_gptq(weight, moments, bits, block_size, dtype, gradients, damping)
    out, width = weight.shape
    stored = op.matrix(f"{name}.weight_q{bits}", values)
    steps = stored_as(op, f"{name}.weight_scales", narrowed(scales), dtype)
    return BlockMatrix(op, stored, steps, bits, width, out, block_size)


def store_corrections(
    op: GraphBuilder, name: str, weight: Float, directions: Float, bits: int, block_size: int
) -> None:
    """What gpt2onnx-kernels correct a product with weight [out, width] by.

    They round activations, and what that leaves counts most along few directions [width, rank]: it
    is measured along these, in blocks as the weight's, and the corrections are what each adds to
    the outputs [out, rank].
    """
    for part, matrix, levels, block in (
        ("directions", directions.T, 8, block_size),
        ("corrections", weight @ directions, bits, directions.shape[1]),
    ):
        values, scales = quantize_blocks(matrix, levels, block)
        op.matrix(f"{name}.{part}_q{levels}", values)
        op.matrix(f"{name}.{part}_scales", narrowed(scales))


def stored_as(op: GraphBuilder, name: str, value: NDArray[Any], dtype: np.dtype[Any]) -> str:
    """Store a matrix in its own type, for activations of another, to which it is cast."""
    stored = op.matrix(name, value)
    if value.dtype == dtype:
        return stored
    return op.Cast(stored, to=helper.np_dtype_to_tensor_dtype(dtype))


def narrowed(scales: NDArray[Any]) -> NDArray[Any]:
    """Scales in half precision, whose digits they have, unless one is beyond its range."""
    with np.errstate(over="ignore"):
        halves = scales.astype(np.float16)
    return halves if np.array_equal(halves, scales) else scales


def cast(value: Float, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """`value` in the type of the activations. Raises WeightsError where it is beyond its range."""
    check_range(value, dtype, name)
    return value.astype(dtype, copy=False)


def check_range(value: Float, dtype: np.dtype[Any], name: str) -> None:
    """Raise WeightsError where a weight would become infinite."""
    largest = max(value.max(), -value.min())
    if largest > np.finfo(dtype).max:
        raise WeightsError(
            f"{name}: expected weights within {dtype}'s range, +-{np.finfo(dtype).max:.6g}, found "
            f"{largest:.6g}; export in fp32, or in int8 for ",
            Advised("device", "cpu"),
            name=name,
        )
