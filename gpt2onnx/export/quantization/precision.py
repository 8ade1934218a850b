"""How a matrix is stored and multiplied: the parts of which table.py makes each precision.

Knows matrices, and the operators that multiply them; knows nothing of attention or layers.
Activations are rows, [tokens, width]. A `Precision` answers two questions: what becomes of a linear
layer, and what becomes of the embedding table, which the language model head reads a second time.

The operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.quantization.blocks import (
    BLOCK_SIZE,
    BlockMatrix,
    BlockTable,
    CudaBlockTable,
    SplitTable,
    cast,
    store_blocks,
    store_corrections,
    stored_as,
)
from gpt2onnx.export.quantization.dynamic import multiply
from gpt2onnx.export.writing.onnx_builder import GraphBuilder

Float = NDArray[np.float32]


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

    def product(self, op: GraphBuilder, name: str, x: str, weight: Float) -> str:
        """x [tokens, in] times weight [in, out] -> [tokens, out]."""

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        """The embedding table, weight [vocab, width]."""


# GPTQ's of a table: rows count by themselves as well, since an embedding reads them.
TABLE_DAMPING = 1.0
# The part of a vocabulary that BPE merged first, and texts use most.
FIRST = Fraction(7, 16)


@dataclass(frozen=True)
class Floating:
    """Matrices as they are, in single or half precision."""

    dtype: np.dtype[Any]

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        stored = op.matrix(f"{name}.weight", cast(weight, self.dtype, name))
        return op.Gemm(x, stored, op.vector(f"{name}.bias", cast(bias, self.dtype, name)))

    def product(self, op: GraphBuilder, name: str, x: str, weight: Float) -> str:
        return op.MatMul(x, op.matrix(f"{name}.weight", cast(weight, self.dtype, name)))

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


def halves_table(op: GraphBuilder, name: str, weight: Float, dtype: np.dtype[Any]) -> FloatTable:
    """A table [rows, width] that is stored in half precision, for activations of another type."""
    return FloatTable(op, stored_as(op, f"{name}.weight", weight.astype(np.float16), dtype))


def first_rows(count: int) -> int:
    """Of a table's rows those that have 8 bits where the others have 4, or all of a small one's.

    They are so many that the rest's bits cost 1 % of the top tokens at most, and a number that
    operators take at once.
    """
    return min(-(-count * FIRST // 64) * 64, count)


@dataclass(frozen=True)
class Blockwise:
    """Weights in blocks with a scale each; the embedding table in 8 bits, or in 8 and 4.

    moments, gradients: of inputs and, by a matrix's name, of its outputs [n, out]: round by GPTQ
    directions: by a matrix's name, those of its input [in, rank] along which the kernels make up
    for rounding it
    """

    bits: int
    dtype: np.dtype[Any]
    moments: Callable[[str], Float | None] | None = None
    gradients: Mapping[str, Float] = field(default_factory=dict)
    fine: bool = False  # 16 bits of activations, in two parts
    block_size: int = BLOCK_SIZE
    directions: Mapping[str, Float] = field(default_factory=dict)

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        product = self.product(op, name, x, weight)
        return op.Add(product, op.vector(f"{name}.bias", cast(bias, self.dtype, name)))

    def product(self, op: GraphBuilder, name: str, x: str, weight: Float) -> str:
        matrix = self.store(op, name, weight)
        return matrix.multiply_finely(x) if self.fine else matrix.multiply(x)

    def store(self, op: GraphBuilder, name: str, weight: Float) -> BlockMatrix:
        """A linear layer's weight [in, out], rounded."""
        moments = self.moments(name) if self.moments else None
        if name in self.directions:
            store_corrections(op, name, weight.T, self.directions[name], self.bits, self.block_size)
        gradients = self.gradients.get(name)
        return store_blocks(
            op, name, weight.T, self.bits, self.dtype, moments, gradients, self.block_size
        )

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        store = partial(store_blocks, op, dtype=self.dtype, block_size=self.block_size)
        if self.dtype == np.float16:
            return CudaBlockTable(store(name, weight, 8))
        count = first_rows(len(weight)) if self.bits == 4 else len(weight)
        first = BlockTable(store(name, weight[:count], 8))
        if count == len(weight):
            return first
        moments = self.moments(name) if self.moments else None
        rest = store(f"{name}.rest", weight[count:], 4, moments=moments, damping=TABLE_DAMPING)
        return SplitTable(first, BlockTable(rest))


@dataclass(frozen=True)
class Dynamic:
    """8-bit weights with a scale an output, 8-bit activations with a scale a token.

    Sums of integers are exact, so a token's result doesn't depend on what shares its batch. The
    fastest operator, DynamicQuantizeMatMul, has one scale for all tokens and loses just that. x86
    processors without VNNI add each two products in 16 bits, though, which now and then overflow:
    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """

    dtype: np.dtype[Any]
    multiply: Callable[[GraphBuilder, str, str, Float], str] = multiply

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        product = self.product(op, name, x, weight)
        return op.Add(product, op.vector(f"{name}.bias", bias))

    def product(self, op: GraphBuilder, name: str, x: str, weight: Float) -> str:
        return self.multiply(op, name, x, weight)

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        return BlockTable(store_blocks(op, name, weight, 8, self.dtype))


@dataclass(frozen=True)
class Mixed:
    """One precision for most matrices, another for those whose name has a key of `others` in it."""

    most: Precision
    others: Mapping[str, Precision]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.most.dtype

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        return self._of(name).linear(op, name, x, weight, bias)

    def product(self, op: GraphBuilder, name: str, x: str, weight: Float) -> str:
        return self._of(name).product(op, name, x, weight)

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        return self.most.table(op, name, weight)

    def _of(self, name: str) -> Precision:
        others = (other for part, other in self.others.items() if part in name)
        return next(others, self.most)
