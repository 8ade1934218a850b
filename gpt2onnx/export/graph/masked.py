"""The fused graph with the inputs that other libraries feed (optimum_interface.py).

The mask becomes what GroupQueryAttention wants: every row is
as long as the mask, and a bias hides what it leaves out, so that rows padded on either side are
right. The past may be of any length, or, bound to the same memory as the present, longer than what
it holds.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from gpt2onnx.export.graph.fused import BIAS
from gpt2onnx.export.graph.optimum_interface import OptimumDecoder
from gpt2onnx.export.quantization.precision import Table


class MaskedDecoder(OptimumDecoder):
    """Writes the nodes of one checkpoint; `seqlens_k` and the like are values, not inputs."""

    def embed(self, tokens: Table) -> str:
        with self.op.scope("mask"):
            self._lengths()
            self._bias()
        return super().embed(tokens)

    def _lengths(self) -> None:
        """seqlens_k [batch] and total_sequence_length, by the mask's shape."""
        op = self.op
        batch, total = (op.Shape("attention_mask", start=axis, end=axis + 1) for axis in range(2))
        last = op.Sub(total, op.constant([1], np.int64))
        op.node("Cast", [op.Expand(last, batch)], ["seqlens_k"], to=TensorProto.INT32)
        length = op.Squeeze(total, op.constant([0], np.int64))
        op.node("Cast", [length], ["total_sequence_length"], to=TensorProto.INT32)

    def _bias(self) -> None:
        """attention_bias [batch, 1, sequence, total]: the lowest number where the mask is 0."""
        op, dtype = self.op, self.precision.dtype
        given = op.Unsqueeze("attention_mask", op.constant([1, 2], np.int64))
        visible = op.Cast(given, to=TensorProto.BOOL)
        bias = op.Where(visible, op.constant(0, dtype), op.constant(np.finfo(dtype).min, dtype))
        new = op.Shape("input_ids", start=1, end=2)
        one = op.constant([1], np.int64)
        op.node("Expand", [bias, op.Concat(one, one, new, one, axis=0)], [BIAS])

    def attention_options(self) -> list[str]:
        return ["", "", "", BIAS]
