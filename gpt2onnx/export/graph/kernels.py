"""GPT-2's decoder in the operators of gpt2onnx-kernels, beside the fused graph.

Its matrices are the fused graph's own, in the same data file. Knows how those are named, and what
the operators take (docs/kernels.md); nothing of where the weights came from.

Inputs                    shape
  input_ids               int64 [tokens]
  position_ids            int64 [tokens]
  rows                    int64 [tokens], each token's row of the cache
  slots                   int64 [tokens], and its place there: in order, a row's tokens together
  logits_index            int64 [count], the tokens that get logits
  attention_mask          bool [tokens, tokens], which of the run's tokens of its row each one sees;
                          [0, 0] where it's all up to itself
  top_index               int64 [choices], the places among the logits where a choice follows
  temperatures            float32 [choices], and at which temperature
  outside                 float32 [choices], the share of their weight that top-p leaves out; 0
                          where it isn't asked
  past_key_values.N.key   [rows, heads, capacity, head_dim], and .value: appended to in place
Outputs
  logits                  float32 [count, vocab]
  hidden_states           float32 [count, n_embd], the head's input, where they are asked for
  top_ids                 int64 [choices, top], of the largest logits, the largest first
  top_logits              float32 [choices, top]
  top_logprobs            float32 [choices, top], of log_softmax over all logits
  top_sums                float32 [choices, blocks], of exp((logit - the largest) / temperature)
                          over each 256, of those tokens alone that top-p leaves where there is a
                          border
  top_borders             float32 [choices], the smallest logit that top-p leaves; NaN where it
                          isn't asked, or not certain
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.quantization.table import those
from gpt2onnx.export.writing.onnx_builder import IR_VERSION, OPSET

DOMAIN, VERSION = "gpt2onnx", 7
# What makes up for rounding activations, in a matrix each.
PARTS = ("directions", "corrections")
# Top-p of 0.95 seldom keeps more of a trained model's, and what few there are cost next to nothing.
TOP, BLOCK = 256, 256
PRECISIONS = those(lambda each: each.kernels)


def can_build(graph: str, precision: str, device: str) -> bool:
    """Whether a graph has one of the kernels' operators beside it."""
    return graph == "fused" and precision in PRECISIONS and device == "cpu"


# The operator's name of each of transformers' activation functions.
ACTIVATIONS = {
    **dict.fromkeys(["gelu", "gelu_python"], "gelu"),
    **dict.fromkeys(
        ["gelu_accurate", "gelu_fast", "gelu_new", "gelu_python_tanh", "gelu_pytorch_tanh"],
        "gelu_tanh",
    ),
    **dict.fromkeys(["silu", "swish"], "silu"),
    **{name: name for name in ("gelu_10", "laplace", "leaky_relu", "linear", "mish")},
    **{name: name for name in ("quick_gelu", "relu", "relu2", "relu6", "sigmoid", "tanh")},
}

# Activations are rounded to so many bits before a product with rounded weights, by block.
ACTIVATION_BITS = 8


def build(
    fused: onnx.ModelProto,
    stored: Mapping[str, onnx.TensorProto],
    config: Gpt2Config,
    kv_cache: str = "float",
) -> onnx.ModelProto:
    """The same model as a fused one, whose tensors it shares; it reads others of `stored`, too."""
    return _Writer(fused, stored, config, kv_cache).model()


class _Writer:
    """Writes the nodes; collects the initializers that they read."""

    def __init__(
        self,
        fused: onnx.ModelProto,
        stored: Mapping[str, onnx.TensorProto],
        config: Gpt2Config,
        kv_cache: str,
    ) -> None:
        self.config = config
        self.kv_cache = kv_cache
        self.fused = fused
        self.there = stored
        self.read: dict[str, onnx.TensorProto] = {}
        self.nodes: list[onnx.NodeProto] = []

    def model(self) -> onnx.ModelProto:
        self.write()
        graph = helper.make_graph(
            self.nodes, "gpt2", self.inputs(), self.outputs(), list(self.read.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="gpt2onnx"
        )

    def write(self) -> None:
        """GPT2LMHeadModel.forward."""
        told = ["input_ids", "position_ids", *self.matrix("wte.weight"), self.tensor("wpe.weight")]
        hidden = self.node("Embed", told + self.rest("wte"), "embedding")
        for layer in range(self.config.n_layer):
            hidden = self.mlp(layer, self.attention(layer, hidden))
        self.head(hidden)

    def attention(self, layer: int, hidden: str) -> str:
        name = f"h.{layer}.attn"
        qkv = self.linear(f"{name}.c_attn", hidden, norm=f"h.{layer}.ln_1")
        steps = f"{name}.value_steps"
        cache = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        told = [qkv, "rows", "slots", *cache, "attention_mask"]
        told += [self.tensor(steps)] if steps in self.there else []
        heads, scale = self.config.n_head, self.config.scale(layer)
        rows = self.node("Attention", told, name, heads=heads, scale=scale)
        # Behind the last attention no token sees another: those without logits are done.
        last = layer == self.config.n_layer - 1
        selection = "logits_index" if last else ""
        return self.linear(f"{name}.c_proj", rows, residual=hidden, selection=selection)

    def mlp(self, layer: int, hidden: str) -> str:
        name = f"h.{layer}.mlp"
        activation = ACTIVATIONS[self.config.activation_function]
        units = self.linear(f"{name}.c_fc", hidden, norm=f"h.{layer}.ln_2", activation=activation)
        return self.linear(f"{name}.c_proj", units, residual=hidden)

    def head(self, hidden: str) -> None:
        name = "wte" if self.config.tie_word_embeddings else "lm_head"
        given = {output.name for output in self.fused.graph.output}
        self.linear(
            name,
            hidden,
            norm="ln_f",
            out="logits",
            normalized="hidden_states" if "hidden_states" in given else "",
            transposed=1,
        )
        told = ["logits", "top_index", "temperatures", "outside"]
        self.node("TopLogits", told, *(name for name, *_ in self.top_outputs()), top=self.top)

    @property
    def top(self) -> int:
        """How many of the largest logits the graph gives by themselves."""
        return min(TOP, self.config.vocab_size)

    def top_outputs(self) -> list[tuple[str, int, list[str | int]]]:
        """Name, type and shape of what the graph gives of the largest logits."""
        blocks = -(-self.config.vocab_size // BLOCK)
        return [
            ("top_ids", TensorProto.INT64, ["choices", self.top]),
            ("top_logits", TensorProto.FLOAT, ["choices", self.top]),
            ("top_logprobs", TensorProto.FLOAT, ["choices", self.top]),
            ("top_sums", TensorProto.FLOAT, ["choices", blocks]),
            ("top_borders", TensorProto.FLOAT, ["choices"]),
        ]

    def linear(
        self,
        name: str,
        x: str,
        norm: str = "",
        residual: str = "",
        selection: str = "",
        activation: str = "linear",
        out: str = "",
        normalized: str = "",
        transposed: int = 0,
    ) -> str:
        """A matrix with all that stands around it: x [tokens, in] -> [tokens or count, out].

        `normalized` names a second output, x behind the layer norm: [tokens or count, in].
        """
        weight, scales = self.matrix(f"{name}.weight")
        bias = f"{name}.bias"
        told = [x, weight, scales, self.tensor(bias) if bias in self.there else ""]
        told += self.norm(norm) if norm else ["", ""]
        told += [residual, selection]
        options: dict[str, Any] = {"activation": activation}
        if norm:
            options["epsilon"] = self.config.layer_norm_epsilon
        if scales:
            if f"{name}.directions_scales" in self.there:
                told += [part for of in PARTS for part in self.matrix(f"{name}.{of}")]
            if rest := self.rest(name):
                told += [*4 * [""], *rest]
            bits = int(weight[-1])
            block = self.there[weight].dims[2] * 8 // bits
            options |= {"bits": bits, "block_size": block}
            options |= {"activation_bits": ACTIVATION_BITS, "activation_block": block}
        elif transposed:
            options["transposed"] = 1
        return self.node("Linear", told, out or name, *filter(None, [normalized]), **options)

    def matrix(self, name: str) -> tuple[str, str]:
        """A stored matrix and its scales, which floats have none of."""
        for bits in (8, 4):
            if (rounded := f"{name}_q{bits}") in self.there:
                return self.tensor(rounded), self.tensor(f"{name}_scales")
        return self.tensor(name), ""

    def rest(self, name: str) -> list[str]:
        """The same of a table's rows that have fewer bits than the first ones, if it has them."""
        rest = f"{name}.rest.weight"
        return [*self.matrix(rest)] if f"{rest}_scales" in self.there else []

    def norm(self, name: str) -> list[str]:
        return [self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")]

    def tensor(self, name: str) -> str:
        """One of the fused graph's initializers, which becomes this one's."""
        self.read[name] = self.there[name]
        return name

    def node(
        self, op_type: str, inputs: Sequence[str], out: str, *others: str, **options: Any
    ) -> str:
        """A node with the name of its first output."""
        made = helper.make_node(op_type, inputs, [out, *others], name=out, domain=DOMAIN, **options)
        self.nodes.append(made)
        return out

    def inputs(self) -> list[onnx.ValueInfoProto]:
        whole = ("input_ids", "position_ids", "rows", "slots")
        made = [helper.make_tensor_value_info(n, TensorProto.INT64, ["tokens"]) for n in whole]
        made.append(helper.make_tensor_value_info("logits_index", TensorProto.INT64, ["count"]))
        made.append(helper.make_tensor_value_info("top_index", TensorProto.INT64, ["choices"]))
        asked = ("temperatures", "outside")
        made += [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["choices"]) for n in asked]
        made.append(
            helper.make_tensor_value_info("attention_mask", TensorProto.BOOL, ["seeing", "seen"])
        )
        for past in self.fused.graph.input:
            if past.name.startswith("past_key_values."):
                own = onnx.ValueInfoProto()
                own.CopyFrom(past)
                own.type.tensor_type.shape.dim[0].dim_param = "rows"
                if self.kv_cache == "float16":
                    own.type.tensor_type.elem_type = TensorProto.FLOAT16
                made.append(own)
        return made

    def outputs(self) -> list[onnx.ValueInfoProto]:
        given = ("logits", "hidden_states")
        shared = [output for output in self.fused.graph.output if output.name in given]
        return shared + [helper.make_tensor_value_info(*each) for each in self.top_outputs()]
