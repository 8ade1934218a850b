"""The same decoder in standard ONNX operators, for any runtime.

Its inputs and outputs are optimum_interface.py's. Knows GPT-2; a precision's record says how its
matrices are stored in these operators.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from onnx import TensorProto

from gpt2onnx.errors import Advised, Given, ParameterError
from gpt2onnx.export.graph import activations
from gpt2onnx.export.graph.activations import Activation
from gpt2onnx.export.graph.fused import Float, Weight
from gpt2onnx.export.graph.optimum_interface import OptimumDecoder
from gpt2onnx.export.quantization import table
from gpt2onnx.export.quantization.precision import Precision, Table
from gpt2onnx.export.writing.onnx_builder import GraphBuilder

PRECISIONS = table.those(lambda each: each.standard)
# What is added to the score of a token that isn't seen, and of each that is.
HIDDEN, SEEN = np.finfo(np.float32).min, 0
MASK = "/mask/bias"  # [batch_size, 1, sequence_length, total]


class PortableDecoder(OptimumDecoder):
    """Writes the nodes of one checkpoint in operators of opset 18."""

    opset: ClassVar[int] = 18

    def embed(self, tokens: Table) -> str:
        with self.op.scope("mask"):
            self._mask()
        return super().embed(tokens)

    def _mask(self) -> None:
        """MASK: a token sees those before it and itself, except where attention_mask is 0."""
        op = self.op
        axis, zero, one = (op.constant(n, np.int64) for n in ([0], 0, 1))
        total = op.Squeeze(op.Shape("attention_mask", start=1, end=2), axis)
        new = op.Squeeze(op.Shape("input_ids", start=1, end=2), axis)
        keys = op.Range(zero, total, one)
        queries = op.Unsqueeze(op.Range(op.Sub(total, new), total, one), op.constant([1], np.int64))
        given = op.Unsqueeze("attention_mask", op.constant([1, 2], np.int64))
        visible = op.And(op.LessOrEqual(keys, queries), op.Cast(given, to=TensorProto.BOOL))
        values = (op.constant(n, np.float32) for n in (SEEN, HIDDEN))
        op.node("Where", [visible, *values], [MASK])

    def attend(self, layer: int, qkv: str) -> str:
        """qkv [batch, sequence, 3 * heads, head_dim] -> [batch, sequence, heads, head_dim]."""
        op, heads = self.op, self.checkpoint.config.n_head
        by_head = op.Transpose(qkv, perm=[0, 2, 1, 3])
        query, *new = op.split(by_head, 3 * [heads], axis=1)
        pasts, presents = (self.cached(layer, name) for name in ("past_key_values", "present"))
        for past, value, present in zip(pasts, new, presents, strict=True):
            op.node("Concat", [past, value], [present], axis=2)
        keys, values = presents
        scores = op.MatMul(query, op.Transpose(keys, perm=[0, 1, 3, 2]))
        weights = op.Softmax(op.Add(scores, MASK), axis=-1)
        return op.Transpose(op.MatMul(weights, values), perm=[0, 2, 1, 3])

    def qkv(self, layer: int) -> Weight:
        """c_attn with the scores' scale in the queries' columns: a rounding fewer than behind."""
        weight, bias = self.weights(f"h.{layer}.attn.c_attn")
        factor = np.ones(len(bias), np.float32)
        factor[: len(bias) // 3] = self.checkpoint.config.scale(layer)
        return weight * factor, bias * factor

    def activation(self) -> Activation:
        return standard(super().activation())

    @property
    def head_dim(self) -> int:
        return self.checkpoint.config.head_dim

    def pad_heads(self, value: Float) -> Float:
        return value

    @property
    def qkv_sizes(self) -> str:
        return self.op.constant([3 * self.checkpoint.config.n_head, self.head_dim], np.int64)


class RoundedPortableDecoder(PortableDecoder):
    """The same in 8 bits, whose DequantizeLinear has blocks from opset 21 on."""

    opset: ClassVar[int] = 21

    def project(self, normed: str, tokens: Table) -> str:
        """Gather and DequantizeLinear want their matrices turned, so the head is stored anew."""
        name = "wte" if self.checkpoint.config.tie_word_embeddings else "lm_head"
        weight = self.checkpoint.tensor(f"{name}.weight")
        return self.precision.product(self.op, "lm_head", normed, weight.T)


def standard(activation: Activation) -> Activation:
    """The same function without ONNX Runtime's own operators, or those of later opsets."""
    return STANDARD.get(activation, activation)


def _gelu(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    half, one, root = (op.constant(n, dtype) for n in (0.5, 1, 2**0.5))
    return op.Mul(op.Mul(x, op.Add(op.Erf(op.Div(x, root)), one)), half)


def _gelu_tanh(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    half, one, three = (op.constant(n, dtype) for n in (0.5, 1, 3))
    cubed = op.Mul(op.Pow(x, three), op.constant(0.044715, dtype))
    inner = op.Mul(op.Add(x, cubed), op.constant((2 / np.pi) ** 0.5, dtype))
    return op.Mul(op.Mul(x, half), op.Add(op.Tanh(inner), one))


def _clipped_gelu(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
    low, high = (op.constant(n, dtype) for n in (-10, 10))
    return op.Clip(_gelu(op, x, dtype), low, high)


def _sigmoid_gate(alpha: float) -> Activation:
    def gate(op: GraphBuilder, x: str, dtype: np.dtype[Any]) -> str:
        scaled = x if alpha == 1 else op.Mul(x, op.constant(alpha, dtype))
        return op.Mul(x, op.Sigmoid(scaled))

    return gate


STANDARD: dict[Activation, Activation] = {
    activations.gelu: _gelu,
    activations.gelu_tanh: _gelu_tanh,
    activations.clipped_gelu: _clipped_gelu,
    activations.quick_gelu: _sigmoid_gate(1.702),
    activations.silu: _sigmoid_gate(1),
}


def choose_portable(precision: str) -> Precision:
    """How matrices are stored, by a precision's name. Raises ParameterError."""
    named = table.PRECISIONS.get(precision)
    if named is None or named.standard is None:
        raise ParameterError(
            Given("precision", precision),
            f": the portable graph has {', '.join(PRECISIONS)}; ",
            Advised("graph", "fused"),
            " has them all",
        )
    return named.standard()


def portable_decoder(precision: str) -> type[PortableDecoder]:
    """What writes the graph."""
    rounds = table.PRECISIONS[precision].rounds
    return RoundedPortableDecoder if rounds else PortableDecoder
