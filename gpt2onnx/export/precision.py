"""How a matrix is stored and multiplied: fp32, fp16, int8, int8-dynamic and int4.

Knows matrices, and the operators that multiply them; knows nothing of attention or layers.
Activations are rows, [tokens, width]. A `Precision` answers two questions: what becomes of a linear
layer, and what becomes of the embedding table, which the language model head reads a second time.

The operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import ParameterError, WeightsError
from gpt2onnx.export.builder import GraphBuilder
from gpt2onnx.export.dynamic import LOW, MIDDLE, multiply
from gpt2onnx.export.feedback import quantize_with_feedback
from gpt2onnx.export.quantize import quantize_blocks

Float = NDArray[np.float32]

PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic", "int4")
ROUNDED = ("int8", "int8-dynamic", "int4")
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
    moments: Callable[[str], Float] | None = None  # of inputs, by name: round with feedback

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        moments = self.moments(name) if self.moments else None
        matrix = store_blocks(op, name, weight.T, self.bits, self.dtype, moments)
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
    zero_point: int = MIDDLE
    fine: bool = False  # 16 bits of activations, in two parts

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        product = multiply(op, name, x, weight, self.zero_point, self.fine)
        return op.Add(product, op.vector(f"{name}.bias", bias))

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        return BlockTable(store_blocks(op, name, weight, 8, self.dtype))


@dataclass(frozen=True)
class Mixed:
    """One precision for most matrices, another for those whose name ends in a key of `others`."""

    most: Precision
    others: Mapping[str, Precision]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.most.dtype

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        for suffix, precision in self.others.items():
            if name.endswith(suffix):
                return precision.linear(op, name, x, weight, bias)
        return self.most.linear(op, name, x, weight, bias)

    def table(self, op: GraphBuilder, name: str, weight: Float) -> Table:
        return self.most.table(op, name, weight)


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
    op: GraphBuilder,
    name: str,
    weight: Float,
    bits: int,
    dtype: np.dtype[Any],
    moments: Float | None = None,
) -> BlockMatrix:
    """Round weight [out, width] to blocks, with scales in the type of the activations."""
    check_range(weight, dtype, name)
    if moments is None:
        values, scales = quantize_blocks(weight, bits, BLOCK_SIZE, dtype)
    else:
        values, scales = quantize_with_feedback(weight, moments, bits, BLOCK_SIZE, dtype)
    out, width = weight.shape
    stored = op.matrix(f"{name}.weight_q{bits}", values)
    return BlockMatrix(op, stored, op.matrix(f"{name}.weight_scales", scales), bits, width, out)


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


def choose(precision: str, device: str, moments: Callable[[str], Float] | None = None) -> Precision:
    """The recipe by its name, for the device that the model is made for.

    Queries and keys suffer most from rounding: a softmax comes next. So c_attn has 8 bits of
    weights in int4, too, and on the CPU, whose kernels round activations, 16 bits of those.
    moments: of each 4-bit matrix's inputs, which its rounding heeds.

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
    blocks = Blockwise(8, activations)
    fine = Dynamic(single, fine=True) if device == "cpu" else blocks
    attention = {"attn.c_attn": fine, "attn.c_proj": fine}
    recipes: dict[str, Precision] = {
        "fp32": Floating(single),
        "fp16": Floating(half),
        "int8": Mixed(blocks, attention | {"mlp.c_proj": fine}),
        "int8-dynamic": Mixed(
            Dynamic(single), attention | {"mlp.c_proj": Dynamic(single, zero_point=LOW)}
        ),
        "int4": Mixed(Blockwise(4, activations, moments), {"attn.c_attn": fine}),
    }
    return recipes[precision]
