"""Optimum's inputs and outputs for GPT-2, which other libraries use as well.

Inputs                    shape
  input_ids               int64 [batch_size, sequence_length]
  attention_mask          int64 [batch_size, past_sequence_length + sequence_length], 0 where padded
  position_ids            int64 [batch_size, sequence_length]
  past_key_values.N.key   [batch_size, heads, past_sequence_length, head_dim], and .value
Outputs
  logits                  float32 [batch_size, sequence_length, vocab]
  present.N.key           the past with the new tokens' behind it, and .value

What lies between them is a subclass's.
https://huggingface.co/docs/optimum-onnx/onnx/package_reference/export
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper

from gpt2onnx.export.graph.fused import Decoder
from gpt2onnx.export.quantization.precision import Table

DATA = "model.onnx_data"  # as Optimum and the hub's libraries name a graph's weights
BATCH, NEW, PAST = "batch_size", "sequence_length", "past_sequence_length"
TOTAL = f"{PAST} + {NEW}"


class OptimumDecoder(Decoder):
    """The interface of one checkpoint's graph."""

    def head(self, normed: str, tokens: Table) -> None:
        op, vocab = self.op, self.checkpoint.config.vocab_size
        logits = self.project(normed, tokens)
        shape = op.Concat(op.Shape("input_ids"), op.constant([vocab], np.int64), axis=0)
        self.put_out_logits(op.Reshape(logits, shape))

    def project(self, normed: str, tokens: Table) -> str:
        """The language model's head: normed [tokens, n_embd] -> [tokens, vocab]."""
        tied = self.checkpoint.config.tie_word_embeddings
        return (tokens if tied else self.table("lm_head")).project(normed)

    def inputs(self) -> Iterator[onnx.ValueInfoProto]:
        for name, length in (("input_ids", NEW), ("attention_mask", TOTAL), ("position_ids", NEW)):
            yield helper.make_tensor_value_info(name, TensorProto.INT64, [BATCH, length])
        yield from self.keys_and_values("past_key_values", PAST)

    def outputs(self) -> Iterator[onnx.ValueInfoProto]:
        shape = [BATCH, NEW, self.checkpoint.config.vocab_size]
        yield helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)
        yield from self.keys_and_values("present", TOTAL)

    def keys_and_values(self, prefix: str, length: str) -> Iterator[onnx.ValueInfoProto]:
        """Keys and values of every layer, `length` tokens."""
        shape = [BATCH, self.checkpoint.config.n_head, length, self.head_dim]
        element = helper.np_dtype_to_tensor_dtype(self.precision.dtype)
        for layer in range(self.checkpoint.config.n_layer):
            for name in self.cached(layer, prefix):
                yield helper.make_tensor_value_info(name, element, shape)
