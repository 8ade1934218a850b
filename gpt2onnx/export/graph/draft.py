"""The kernels' graph in a loop: a draft of several tokens in one run.

Each turn reads tokens and takes the most probable one, which the next turn reads. What stands
around a step costs a small model more than the step itself, and here there is none of it.

Inputs                    shape
  input_ids               int64 [tokens], what the row lacks: one token or more
  length                  int64 [1], the tokens that the row holds
  row                     int64 [1]
  count                   int64 [], the most tokens to write
  least                   float32 [1], the log-probability below which a token is the last one
  past_key_values.N.key   [rows, heads, capacity, head_dim], and .value: appended to in place
Outputs
  ids                     int64 [written, 1]
  logprobs                float32 [written, 1], of log_softmax over all logits
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INT, FLOAT, BOOL = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL
# What a step is told that is the same in each: one choice, at temperature 1, of all tokens seen.
CONSTANTS = {
    "zero": np.array(0),
    "one": np.array(1),
    "top_index": np.array([0]),
    "temperatures": np.array([1], np.float32),
    "outside": np.array([0], np.float32),
    "attention_mask": np.zeros((0, 0), np.bool_),
}
# What the decoder reads, by what a turn has: a position is the token's place in the row.
RENAMED = {"input_ids": "step_ids", "position_ids": "slots"}


def build(kernels: onnx.ModelProto) -> onnx.ModelProto:
    """The loop over a kernels' graph, whose external tensors it shares."""
    inputs = _values(
        input_ids=(INT, ["tokens"]),
        length=(INT, [1]),
        row=(INT, [1]),
        count=(INT, []),
        least=(FLOAT, [1]),
    )
    cache = [each for each in kernels.graph.input if each.name.startswith("past_key_values.")]
    outputs = _values(ids=(INT, ["written", 1]), logprobs=(FLOAT, ["written", 1]))
    loop = helper.make_node(
        "Loop",
        ["count", "", "input_ids", "length"],
        ["last_id", "last_length", "ids", "logprobs"],
        body=_step(kernels.graph),
    )
    return helper.make_model(
        helper.make_graph([loop], "draft", [*inputs, *cache], outputs),
        opset_imports=kernels.opset_import,
        ir_version=kernels.ir_version,
        producer_name=kernels.producer_name,
    )


def _step(kernels: onnx.GraphProto) -> onnx.GraphProto:
    """A turn of the loop: what it carries on are the next tokens, and what the row holds."""
    inputs = _values(turn=(INT, []), goes_on=(BOOL, []), step_ids=(INT, ["n"]), held=(INT, [1]))
    carried = _values(is_sure=(BOOL, []), next_ids=(INT, [1]), next_held=(INT, [1]))
    written = _values(written_id=(INT, [1]), logprob=(FLOAT, [1]))
    constants = [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()]
    return helper.make_graph(
        list(_nodes(kernels.node)),
        "step",
        inputs,
        [*carried, *written],
        [*kernels.initializer, *constants],
    )


def _nodes(decoder: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Where a turn's tokens stand, the decoder, and the token that it takes."""
    node = helper.make_node
    yield node("Shape", ["step_ids"], ["n"])
    yield node("Squeeze", ["n"], ["tokens"])
    yield node("Range", ["zero", "tokens", "one"], ["offsets"])
    yield node("Add", ["held", "offsets"], ["slots"])
    yield node("Expand", ["row", "n"], ["rows"])
    yield node("Sub", ["n", "one"], ["logits_index"])
    for each in decoder:
        yield _of_step(each)
    yield node("Gather", ["top_ids", "zero"], ["next_ids"], axis=1)
    yield node("Gather", ["top_logprobs", "zero"], ["logprob"], axis=1)
    yield node("Identity", ["next_ids"], ["written_id"])
    yield node("Add", ["held", "n"], ["next_held"])
    yield node("GreaterOrEqual", ["logprob", "least"], ["are_sure"])
    yield node("Squeeze", ["are_sure"], ["is_sure"])


def _of_step(node: onnx.NodeProto) -> onnx.NodeProto:
    """A node of the decoder's, which reads the turn's tokens and gives one of the largest."""
    own = onnx.NodeProto()
    own.CopyFrom(node)
    own.input[:] = [RENAMED.get(name, name) for name in node.input]
    for attribute in own.attribute:
        if attribute.name == "top":
            attribute.i = 1
    return own


def _values(**given: tuple[int, list[Any]]) -> list[onnx.ValueInfoProto]:
    """Values by name: type and shape."""
    return [helper.make_tensor_value_info(name, *how) for name, how in given.items()]
