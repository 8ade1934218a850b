"""8-bit weights that are multiplied out once, when the graph is opened.

Blocks as in the portable graph, by Cast and Mul of constants, which ONNX Runtime folds. In
WebAssembly, whose kernels multiply out rounded weights at every step or are slower than those of
single precision, steps and prompts then take what they take in fp32, of a quarter of the download.

Knows matrices and operators; knows nothing of layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from gpt2onnx.export.quantization.blocks import BLOCK_SIZE, MIDDLE, check_range
from gpt2onnx.export.quantization.precision import FloatTable
from gpt2onnx.export.quantization.rounding import quantize_blocks
from gpt2onnx.export.writing.onnx_builder import GraphBuilder

Float = NDArray[np.float32]


class Unpacked:
    """A precision: weights rounded, activations and products in single precision."""

    dtype: np.dtype[Any] = np.dtype(np.float32)

    def linear(self, op: GraphBuilder, name: str, x: str, weight: Float, bias: Float) -> str:
        return op.Gemm(x, self.store(op, name, weight), op.vector(f"{name}.bias", bias))

    def product(self, op: GraphBuilder, name: str, x: str, weight: Float) -> str:
        return op.MatMul(x, self.store(op, name, weight))

    def table(self, op: GraphBuilder, name: str, weight: Float) -> FloatTable:
        """One matrix serves the embedding and the head, with blocks along each token's row."""
        return FloatTable(op, op.Transpose(self.store(op, name, weight.T), perm=[1, 0]))

    def store(self, op: GraphBuilder, name: str, weight: Float) -> str:
        """weight [in, out], stored as int8 [blocks, BLOCK_SIZE, out] with scales [blocks, 1, out].

        Blocks lie along the inputs, filled up with zeros.
        """
        check_range(weight, self.dtype, name)
        width, out = weight.shape
        values, scales = quantize_blocks(weight.T, 8, BLOCK_SIZE)
        signed = (values.reshape(out, -1, BLOCK_SIZE) ^ np.uint8(MIDDLE)).view(np.int8)
        stored = op.matrix(f"{name}.weight_q8", signed.transpose(1, 2, 0))
        turned = op.matrix(f"{name}.weight_scales", scales.T[:, None])
        blocks = op.Mul(op.Cast(stored, to=TensorProto.FLOAT), turned)
        whole = op.Reshape(blocks, op.constant([-1, out], np.int64))
        if width % BLOCK_SIZE == 0:
            return whole
        return op.Slice(whole, *(op.constant([at], np.int64) for at in (0, width, 0)))
