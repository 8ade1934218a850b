"""The graph for CUDA: fewer kernels a step, and the top logits found on the device.

A decode step of a small model on a GPU is a chain of short kernels, so each one that is left out
counts. ONNX Runtime fuses some of them itself, but no residual stream whose activations are rows.

Outputs beside those of graph.py
  top_logits              float32 [count, top], the largest of the logits, largest first
  top_ids                 int64 [count, top], their tokens
  top_logprobs            float32 [count, top], what log_softmax over all of them makes of these
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper

from gpt2onnx.export.graph.activations import ACTIVATIONS, gelu_tanh
from gpt2onnx.export.graph.fused import Decoder, Float, Weight
from gpt2onnx.export.quantization.precision import Floating, Table

# Enough for top_k's default, 50. ONNX Runtime's kernel pads to powers of two.
TOP = 64
# MatMulNBits multiplies in 8 bits where the outputs are divisible by this, and else makes all of
# the matrix half precision first; cuBLAS' tensor cores like them so.
ALIGNMENT = 8
# What is added to every channel of c_attn's input, whose weights then hold its bias: small, since
# it multiplies their rounding, and no smaller, since each takes up bias / (SHIFT * n_embd).
SHIFT = 0.25
# Of each row: where the new tokens' keys begin in the cache, and how many it has with them.
START, LENGTH = "/cache/start", "/cache/length"


class CudaDecoder(Decoder):
    """Writes the nodes of one checkpoint for CUDA."""

    def mlp(self, layer: int, x: str) -> str:
        if ACTIVATIONS[self.checkpoint.config.activation_function] is not gelu_tanh:
            return super().mlp(layer, x)
        name = f"h.{layer}.mlp.c_fc"
        product, bias = self.product(name, x, *self.weights(name))
        with self.op.scope(f"h.{layer}.mlp"):
            return self.op.FastGelu(product, bias)

    def project_qkv(self, layer: int, x: str) -> str:
        """As a product alone where matrices are floats: Gemm adds a bias by a launch of its own."""
        if not isinstance(self.precision, Floating):
            return super().project_qkv(layer, x)
        name = f"h.{layer}.attn.c_attn"
        weight = folded(*self.weights(f"h.{layer}.ln_1"), *self.qkv(layer))
        with self.op.scope(name):
            return self.precision.product(self.op, name, x, weight)

    def norm_weights(self, name: str) -> tuple[str, str]:
        if name.endswith("ln_1") and isinstance(self.precision, Floating):
            gain = np.ones(self.checkpoint.config.n_embd, np.float32)
            return self.vector(f"{name}.weight", gain), self.vector(f"{name}.bias", SHIFT * gain)
        return super().norm_weights(name)

    def add(
        self, hidden: str, rows: str, name: str, weights: Callable[[str], Weight], norm: str
    ) -> tuple[str, str]:
        product, bias = self.product(name, rows, *weights(name))
        normed, total = f"/{norm}/SkipLayerNormalization", f"/{norm}/sum"
        self.op.node(
            "SkipLayerNormalization",
            [product, hidden, *self.norm_weights(norm), bias],
            [normed, "", "", total],
            epsilon=self.checkpoint.config.layer_norm_epsilon,
        )
        return total, normed

    def product(self, name: str, x: str, weight: Float, bias: Float) -> tuple[str, str]:
        """x [tokens, in] times weight [in, out] -> [tokens, out], and the bias, yet to be added."""
        with self.op.scope(name):
            product = self.precision.product(self.op, name, x, weight)
        return product, self.vector(f"{name}.bias", bias)

    def table(self, name: str) -> Table:
        """With rows of zeros behind, whose logits are cut off again."""
        weight = self.checkpoint.tensor(f"{name}.weight")
        if missing := -len(weight) % ALIGNMENT:
            weight = np.pad(weight, ((0, missing), (0, 0)))
        return self.precision.table(self.op, name, weight)

    def put_out_logits(self, logits: str) -> None:
        op, vocab = self.op, self.checkpoint.config.vocab_size
        if vocab % ALIGNMENT:
            start, end, axis = (op.constant([n], np.int64) for n in (0, vocab, 1))
            logits = op.Slice(logits, start, end, axis)
        super().put_out_logits(logits)
        op.node("TopK", ["logits", op.constant([self.top], np.int64)], ["top_logits", "top_ids"])
        # ReduceLogSumExp would want cuDNN, which needn't be there.
        logprobs = op.GatherElements(op.LogSoftmax("logits"), "top_ids", axis=1)
        op.rename(logprobs, "top_logprobs")

    def outputs(self) -> Iterator[onnx.ValueInfoProto]:
        yield from super().outputs()
        for name, element in (
            ("top_logits", TensorProto.FLOAT),
            ("top_ids", TensorProto.INT64),
            ("top_logprobs", TensorProto.FLOAT),
        ):
            yield helper.make_tensor_value_info(name, element, ["count", self.top])

    @property
    def top(self) -> int:
        """How many of the largest logits the graph gives by themselves."""
        return min(TOP, self.checkpoint.config.vocab_size)


def folded(gain: Float, shift: Float, weight: Float, bias: Float) -> Float:
    """The matrix [in, out] that gives of n + SHIFT what weight and bias give of n * gain + shift.

    n is what a layer norm makes of a row before its gain [in] and bias, `shift` [in]. Its sum is
    zero, so the same number added to all of a column's weights changes nothing, and times SHIFT it
    is the column's constant.
    """
    scaled = gain[:, None].astype(np.float64) * weight
    constant = bias + shift @ weight.astype(np.float64) - SHIFT * scaled.sum(axis=0)
    found: Float = (scaled + constant / (SHIFT * len(gain))).astype(np.float32)
    return found


class SingleCudaDecoder(CudaDecoder):
    """The same in fp32, for which GroupQueryAttention has no kernels on CUDA.

    ONNX's own operators of opset 24 append to the cache in place as well, and attend to what of it
    is filled, the newest tokens causally.
    https://onnx.ai/onnx/operators/onnx__TensorScatter.html
    https://onnx.ai/onnx/operators/onnx__Attention.html
    """

    opset = 24

    def write(self) -> None:
        op = self.op
        op.node("Gather", ["position_ids", op.constant(0, np.int64)], [START], axis=1)
        last = op.Cast("seqlens_k", to=TensorProto.INT64)
        op.node("Add", [last, op.constant(1, np.int64)], [LENGTH])
        super().write()

    @property
    def qkv_sizes(self) -> str:
        return self.op.constant([3 * self.checkpoint.config.n_head, self.head_dim], np.int64)

    def attend(self, layer: int, qkv: str) -> str:
        """qkv [batch, sequence, 3 * heads, head_dim] -> [batch, sequence, heads, head_dim]."""
        op, config = self.op, self.checkpoint.config
        heads = op.Transpose(qkv, perm=[0, 2, 1, 3])
        query, *new = op.split(heads, 3 * [config.n_head], axis=1)
        pasts, presents = (self.cached(layer, name) for name in ("past_key_values", "present"))
        for past, value, present in zip(pasts, new, presents, strict=True):
            op.node("TensorScatter", [past, value, START], [present], axis=2)
        attended = op.Attention(
            query, *presents, "", "", "", LENGTH, is_causal=1, scale=config.scale(layer)
        )
        return op.Transpose(attended, perm=[0, 2, 1, 3])
