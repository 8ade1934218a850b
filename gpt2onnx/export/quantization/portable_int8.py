"""8-bit weights of the portable graph: blocks, expanded by DequantizeLinear.

All in standard operators, which any runtime computes in single precision. ONNX Runtime makes one
MatMulNBits of a DequantizeLinear and its MatMul, as in the fused graph, and rounds activations to 8
bits there; so attention's matrices are given 16 in two parts, as in the fused graph.
https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
https://github.com/microsoft/onnxruntime/pull/27614

Knows matrices and operators; knows nothing of layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.quantization.blocks import (
    BLOCK_SIZE,
    MIDDLE,
    BlockMatrix,
    BlockTable,
    StandardBlockMatrix,
    check_range,
    store_blocks,
)
from gpt2onnx.export.quantization.precision import Blockwise
from gpt2onnx.export.quantization.rounding import quantize_blocks
from gpt2onnx.export.writing.onnx_builder import GraphBuilder

Float = NDArray[np.float32]


@dataclass(frozen=True)
class StandardBlockwise(Blockwise):
    """Weights in blocks of 32 with a scale each, multiplied out by DequantizeLinear."""

    def store(self, op: GraphBuilder, name: str, weight: Float) -> BlockMatrix:
        """weight [in, out] as int8 [padded, out] and scales [blocks, out]."""
        check_range(weight, self.dtype, name)
        width, out = weight.shape
        values, scales = quantize_blocks(weight.T, self.bits, BLOCK_SIZE)
        signed = (values.reshape(out, -1) ^ np.uint8(MIDDLE)).view(np.int8)
        stored = op.matrix(f"{name}.weight_q{self.bits}", signed.T)
        turned = op.matrix(f"{name}.weight_scales", scales.T)
        return StandardBlockMatrix(op, stored, turned, self.bits, width, out)

    def table(self, op: GraphBuilder, name: str, weight: Float) -> BlockTable:
        """Of rows alone: a head is a product."""
        return BlockTable(store_blocks(op, name, weight, self.bits, self.dtype))
