"""GPT-2's decoder as an ONNX graph made for ONNX Runtime, read like the model's own code.

Knows GPT-2 and the names of its tensors; how a matrix is stored is precision.py's business, where
it is written builder.py's.

Inputs                    shape
  input_ids               int64 [batch, sequence]
  position_ids            int64 [batch, sequence]
  seqlens_k               int32 [batch], each row's total length - 1
  total_sequence_length   int32 [], the longest row's total length
  logits_index            int64 [count], the positions of [batch * sequence] that get logits
  attention_bias          [batch or 1, 1, sequence, total], added to the causal scores, where it is
                          asked for
  past_key_values.N.key   [batch, heads, capacity, head_dim], and .value; int8 where asked for
Outputs
  logits                  float32 [count, vocab]
  hidden_states           float32 [count, n_embd], the head's input, where they are asked for
  present.N.key           as the past, and to be bound to the same memory: appended to in place

Between attention and attention, activations are rows: [tokens, n_embd], tokens = batch * sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from gpt2onnx.export.checkpoint.checkpoint import Weights
from gpt2onnx.export.graph.activations import ACTIVATIONS, Activation
from gpt2onnx.export.graph.heads import pad_heads, padded_head_dim
from gpt2onnx.export.graph.kv_cache import ATTRIBUTES, CacheGrid
from gpt2onnx.export.quantization.blocks import cast
from gpt2onnx.export.quantization.precision import Floating, Precision, Table, halves_table
from gpt2onnx.export.writing.onnx_builder import OPSET, GraphBuilder
from gpt2onnx.export.writing.progress import Track, silent

Float = NDArray[np.float32]
Weight: TypeAlias = tuple[Float, Float]  # a linear layer's matrix [in, out] and bias [out]

BIAS = "attention_bias"
QKV_SHAPE = "/embedding/qkv_shape"  # of what `attend` takes


@dataclass(frozen=True)
class Extras:
    """What a graph has beyond the plain one's inputs and outputs, where it is asked for."""

    hidden_states: bool = False
    attention_bias: bool = False
    kv_cache: str = "float"


@dataclass(frozen=True)
class Decoder:
    """Writes the nodes of one checkpoint."""

    op: GraphBuilder
    checkpoint: Weights
    precision: Precision
    track: Track
    extras: Extras = Extras()
    grids: Sequence[CacheGrid] = ()

    opset: ClassVar[int] = OPSET

    def write(self) -> None:
        """GPT2LMHeadModel.forward."""
        op, config = self.op, self.checkpoint.config
        tokens = self.table("wte")
        hidden = self.embed(tokens)
        norms = [*(f"h.{layer}.ln_1" for layer in range(config.n_layer)), "ln_f"]
        normed = self.norm(norms[0], hidden)
        for layer in self.track(range(config.n_layer), "exporting"):
            with op.scope(f"h.{layer}"):
                rows, name = self.attention(layer, normed), f"h.{layer}.attn.c_proj"
                hidden, normed = self.add(hidden, rows, name, self.projection, f"h.{layer}.ln_2")
                rows, name = self.mlp(layer, normed), f"h.{layer}.mlp.c_proj"
                hidden, normed = self.add(hidden, rows, name, self.weights, norms[layer + 1])
        with op.scope("lm_head"):
            self.head(normed, tokens)

    def embed(self, tokens: Table) -> str:
        """The embeddings of the tokens and of their positions, together [tokens, n_embd]."""
        op, positions = self.op, self.position_table()
        with op.scope("embedding"):
            flat = op.constant([-1], np.int64)
            sizes = [op.Shape("input_ids"), self.qkv_sizes]
            op.node("Concat", sizes, [QKV_SHAPE], axis=0)
            return op.Add(
                tokens.gather(op.Reshape("input_ids", flat)),
                positions.gather(op.Reshape("position_ids", flat)),
            )

    def head(self, normed: str, tokens: Table) -> None:
        """The graph's outputs, from the last layer norm's [tokens, n_embd] and the embedding."""
        op = self.op
        hidden = op.Gather(normed, "logits_index")
        if self.extras.hidden_states:
            op.rename(op.Cast(hidden, to=TensorProto.FLOAT), "hidden_states")
        tied = self.checkpoint.config.tie_word_embeddings
        self.put_out_logits((tokens if tied else self.table("lm_head")).project(hidden))

    def put_out_logits(self, logits: str) -> None:
        """The head's product [count, vocab] as the graph's output."""
        if self.precision.dtype != np.float32:
            logits = self.op.Cast(logits, to=TensorProto.FLOAT)
        self.op.rename(logits, "logits")

    def attention(self, layer: int, x: str) -> str:
        """Causal self-attention over the cache, up to its last matrix.

        x [tokens, n_embd] -> [tokens, heads * head_dim].
        """
        op, name = self.op, f"h.{layer}.attn"
        qkv = self.project_qkv(layer, x)
        with op.scope(name):
            rows = op.Reshape(
                self.attend(layer, op.Reshape(qkv, QKV_SHAPE)),
                op.constant([-1, self.checkpoint.config.n_head * self.head_dim], np.int64),
            )
            if self.grids:
                steps = self.pad_heads(self.grids[layer].value_step)
                rows = op.Mul(rows, op.vector(f"{name}.value_steps", steps))
        return rows

    def project_qkv(self, layer: int, x: str) -> str:
        """c_attn: x [tokens, n_embd] -> [tokens, 3 * heads * head_dim]."""
        return self.linear(f"h.{layer}.attn.c_attn", x, *self.qkv(layer))

    def attend(self, layer: int, qkv: str) -> str:
        """What each token gathers from those before it, which the cache is appended to with.

        qkv [batch, sequence, 3 * heads * head_dim] -> [batch, sequence, heads * head_dim].
        """
        config = self.checkpoint.config
        attended = f"/h.{layer}.attn/GroupQueryAttention"
        self.op.node(
            "GroupQueryAttention",
            [
                qkv,
                *("", ""),  # keys and values are packed with the queries, in c_attn's order
                *self.cached(layer, "past_key_values"),
                "seqlens_k",
                "total_sequence_length",
                *self.attention_options(),
            ],
            [attended, *self.cached(layer, "present")],
            num_heads=config.n_head,
            kv_num_heads=config.n_head,
            scale=config.scale(layer),
            **ATTRIBUTES[self.extras.kv_cache],
        )
        return attended

    def mlp(self, layer: int, x: str) -> str:
        """Feed-forward, up to its last matrix: x [tokens, n_embd] -> [tokens, n_inner]."""
        name = f"h.{layer}.mlp"
        hidden = self.linear(f"{name}.c_fc", x, *self.weights(f"{name}.c_fc"))
        with self.op.scope(name):
            return self.activation()(self.op, hidden, self.precision.dtype)

    def activation(self) -> Activation:
        return ACTIVATIONS[self.checkpoint.config.activation_function]

    def add(
        self, hidden: str, rows: str, name: str, weights: Callable[[str], Weight], norm: str
    ) -> tuple[str, str]:
        """A branch's last linear layer added to the residual stream, and that normalized.

        hidden [tokens, n_embd], rows [tokens, in] -> two of [tokens, n_embd]. `name` is the linear
        layer, whose weights `weights` gives, `norm` the layer norm.
        """
        hidden = self.op.Add(hidden, self.linear(name, rows, *weights(name)))
        return hidden, self.norm(norm, hidden)

    def linear(self, name: str, x: str, weight: Float, bias: Float) -> str:
        """x [tokens, in] times weight [in, out] plus bias [out] -> [tokens, out]."""
        with self.op.scope(name):
            return self.precision.linear(self.op, name, x, weight, bias)

    def norm(self, name: str, x: str) -> str:
        """Layer normalization: x [tokens, n_embd] -> [tokens, n_embd]."""
        with self.op.scope(name):
            return self.op.LayerNormalization(
                x,
                *self.norm_weights(name),
                axis=-1,
                epsilon=self.checkpoint.config.layer_norm_epsilon,
            )

    def norm_weights(self, name: str) -> tuple[str, str]:
        """A layer norm's gain and bias [n_embd]."""
        gain, bias = self.weights(name)
        return self.vector(f"{name}.weight", gain), self.vector(f"{name}.bias", bias)

    def vector(self, name: str, value: Float) -> str:
        """A vector in the type of the activations."""
        return self.op.vector(name, cast(value, self.precision.dtype, name))

    def table(self, name: str) -> Table:
        """An embedding table or head, stored as the precision says."""
        return self.precision.table(self.op, name, self.checkpoint.tensor(f"{name}.weight"))

    def position_table(self) -> Table:
        """The position embeddings: too small to be worth rounding further than to half."""
        weight, dtype = self.checkpoint.tensor("wpe.weight"), self.precision.dtype
        rounds = not isinstance(self.precision, Floating)
        if rounds and np.abs(weight).max() <= np.finfo(np.float16).max:
            return halves_table(self.op, "wpe", weight, dtype)
        return Floating(dtype).table(self.op, "wpe", weight)

    def weights(self, name: str) -> Weight:
        return self.checkpoint.tensor(f"{name}.weight"), self.checkpoint.tensor(f"{name}.bias")

    def qkv(self, layer: int) -> Weight:
        """c_attn's weight [n_embd, 3 * heads * head_dim] and bias, each head filled up."""
        weight, bias = self.weights(f"h.{layer}.attn.c_attn")
        if self.grids:
            weight, bias = self.grids[layer].place(weight, bias)
        return self.pad_heads(weight), self.pad_heads(bias)

    def projection(self, name: str) -> Weight:
        """c_proj's weight [heads * head_dim, n_embd] and bias, each head filled up."""
        weight, bias = self.weights(name)
        return self.pad_heads(weight.T).T, bias

    @property
    def head_dim(self) -> int:
        return padded_head_dim(self.checkpoint.config)

    def pad_heads(self, value: Float) -> Float:
        return pad_heads(value, self.checkpoint.config)

    @property
    def qkv_sizes(self) -> str:
        """The dimensions of `attend`'s input behind batch and sequence."""
        return self.op.constant([3 * self.checkpoint.config.n_head * self.head_dim], np.int64)

    def cached(self, layer: int, prefix: str) -> list[str]:
        """The names of a layer's keys and values."""
        return [f"{prefix}.{layer}.{part}" for part in ("key", "value")]

    def attention_options(self) -> list[str]:
        """GroupQueryAttention's inputs from cos_cache on; an int8 cache's steps are 1."""
        bias = BIAS if self.extras.attention_bias else ""
        step = self.op.constant([1], np.float32) if self.grids else ""
        return ["", "", "", bias, "", step, step]

    def inputs(self) -> Iterator[onnx.ValueInfoProto]:
        """The graph's inputs, as the module's docstring lists them."""
        yield helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
        yield helper.make_tensor_value_info(
            "position_ids", TensorProto.INT64, ["batch", "sequence"]
        )
        yield helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"])
        yield helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, [])
        yield helper.make_tensor_value_info("logits_index", TensorProto.INT64, ["count"])
        if self.extras.attention_bias:
            element = helper.np_dtype_to_tensor_dtype(self.precision.dtype)
            shape = ["bias_batch", 1, "sequence", "total"]
            yield helper.make_tensor_value_info(BIAS, element, shape)
        yield from self.cache("past_key_values")

    def outputs(self) -> Iterator[onnx.ValueInfoProto]:
        """The graph's outputs."""
        config = self.checkpoint.config
        wide = {"logits": config.vocab_size}
        if self.extras.hidden_states:
            wide["hidden_states"] = config.n_embd
        for name, width in wide.items():
            yield helper.make_tensor_value_info(name, TensorProto.FLOAT, ["count", width])
        yield from self.cache("present")

    def cache(self, prefix: str) -> Iterator[onnx.ValueInfoProto]:
        """Keys and values of every layer."""
        shape = ["batch", self.checkpoint.config.n_head, "capacity", self.head_dim]
        dtype = np.dtype(np.int8) if self.grids else self.precision.dtype
        element = helper.np_dtype_to_tensor_dtype(dtype)
        for layer in range(self.checkpoint.config.n_layer):
            for name in self.cached(layer, prefix):
                yield helper.make_tensor_value_info(name, element, shape)


def build(
    checkpoint: Weights,
    precision: Precision,
    op: GraphBuilder,
    track: Track = silent,
    extras: Extras = Extras(),
    grids: Sequence[CacheGrid] = (),
    kind: type[Decoder] = Decoder,
) -> onnx.ModelProto:
    """The model of a checkpoint; its matrices go to the builder's data file on the way.

    grids: one a layer where the KV cache is int8. kind: the writer, for the CPU or for CUDA.
    """
    decoder = kind(op, checkpoint, precision, track, extras, grids)
    decoder.write()
    return op.model(list(decoder.inputs()), list(decoder.outputs()))
