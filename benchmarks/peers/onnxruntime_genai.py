"""onnxruntime-genai on gpt2onnx's fused graph.

It can't read the graph as it is: it gives no seqlens_k and no logits_index, and wants logits of
rank 3 ("Invalid rank for output: logits Got: 3 Expected: 2"). So a few nodes go before and behind:
lengths from the attention mask, as in the graphs that its own builder writes, and the logits of
each row's last position. One cache for past and present; the prompt in one piece, its default.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.engine import Engine as Base
from benchmarks.peers.engine import Ids, Logits, OnStep, TokenizersText

INSTEAD = ("seqlens_k", "total_sequence_length", "logits_index")


def convert(checkpoint: Path, folder: Path, precision: str) -> None:
    import onnx

    import gpt2onnx.export

    gpt2onnx.export(checkpoint, folder, precision=precision, verify=False)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    adapt(model.graph)
    onnx.save(model, folder / "model.onnx")
    config = json.loads((folder / "config.json").read_text())
    (folder / "genai_config.json").write_text(json.dumps(genai_config(config), indent=1))


def adapt(graph: Any) -> None:
    """Take attention_mask [batch, total] in the place of INSTEAD, give logits [batch, 1, vocab]."""
    from onnx import TensorProto, helper

    graph.initializer.append(helper.make_tensor("/axis", TensorProto.INT64, [1], [1]))
    for each in graph.node:
        each.output[:] = ["/logits" if name == "logits" else name for name in each.output]
    last = helper.make_node("Unsqueeze", ["/logits", "/axis"], ["logits"])
    tensor = helper.make_tensor_value_info
    mask = tensor("attention_mask", TensorProto.INT64, ["batch", "total"])
    logits, *caches = graph.output  # as export/graph/fused.py orders them
    vocab = logits.type.tensor_type.shape.dim[1].dim_value
    fields = {
        "node": [*lengths(), *graph.node, last],
        "input": [*(each for each in graph.input if each.name not in INSTEAD), mask],
        "output": [tensor("logits", TensorProto.FLOAT, ["batch", 1, vocab]), *caches],
    }
    for field, values in fields.items():
        graph.ClearField(field)
        getattr(graph, field).extend(values)


def lengths() -> list[Any]:
    """INSTEAD, from the shapes of input_ids and from attention_mask."""
    from onnx import TensorProto, helper

    def constant(name: str, value: int) -> Any:
        tensor = helper.make_tensor(name, TensorProto.INT64, [], [value])
        return node("Constant", [], [name], value=tensor)

    node = helper.make_node
    return [
        *(constant("/zero", 0), constant("/one", 1)),
        node("ReduceSum", ["attention_mask", "/axis"], ["/lengths"], keepdims=0),
        node("Sub", ["/lengths", "/one"], ["/last"]),
        node("Cast", ["/last"], ["seqlens_k"], to=TensorProto.INT32),
        node("Shape", ["attention_mask"], ["/mask_shape"]),
        node("Gather", ["/mask_shape", "/one"], ["/total"]),
        node("Cast", ["/total"], ["total_sequence_length"], to=TensorProto.INT32),
        node("Shape", ["input_ids"], ["/ids_shape"]),
        node("Gather", ["/ids_shape", "/zero"], ["/batch"]),
        node("Gather", ["/ids_shape", "/one"], ["/sequence"]),
        node("Range", ["/zero", "/batch", "/one"], ["/rows"]),
        node("Add", ["/rows", "/one"], ["/rows_and_one"]),
        node("Mul", ["/rows_and_one", "/sequence"], ["/ends"]),
        node("Sub", ["/ends", "/one"], ["logits_index"]),
    ]


def genai_config(config: dict[str, Any]) -> dict[str, Any]:
    """A decoder of the llama kind is what takes a cache in two tensors a layer."""
    return {
        "model": {
            "type": "llama",
            "bos_token_id": config.get("bos_token_id"),
            "eos_token_id": config.get("eos_token_id"),
            "pad_token_id": config.get("eos_token_id"),
            "context_length": config["n_positions"],
            "vocab_size": config["vocab_size"],
            "decoder": {
                "filename": "model.onnx",
                "session_options": {"provider_options": []},
                "head_size": config["n_embd"] // config["n_head"],
                "hidden_size": config["n_embd"],
                "num_attention_heads": config["n_head"],
                "num_key_value_heads": config["n_head"],
                "num_hidden_layers": config["n_layer"],
                "inputs": {
                    "input_ids": "input_ids",
                    "position_ids": "position_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {"max_length": config["n_positions"], "past_present_share_buffer": True},
    }


class Engine(TokenizersText, Base):
    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime_genai

        self.api: Any = onnxruntime_genai
        config = onnxruntime_genai.Config(str(folder))
        session = {"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}
        config.overlay(json.dumps(session))
        self.model = onnxruntime_genai.Model(config)
        self.read_tokenizer(folder)

    def prompt(self, ids: Ids, room: int) -> Logits:
        params = self.api.GeneratorParams(self.model)
        params.set_search_options(batch_size=len(ids), max_length=ids.shape[1] + room)
        self.generator = self.api.Generator(self.model, params)
        return self._append(ids)

    def step(self, ids: Ids) -> Logits:
        return self._append(ids[:, None])

    def greedy(self, prompts: Ids, count: int, on_step: OnStep, forced: Ids | None = None) -> None:
        """Several rows go on from their own tokens: append_tokens takes them once alone."""
        self.can_be_forced = len(prompts) == 1
        if self.can_be_forced:
            super().greedy(prompts, count, on_step, forced)
            return
        self.prompt(prompts, count)
        for _ in range(count):
            self.generator.generate_next_token()
            on_step(self.generator.get_next_tokens().tolist())

    def _append(self, ids: Ids) -> Logits:
        self.generator.append_tokens(ids.astype(np.int32))
        logits: Logits = self.generator.get_logits()[:, -1]
        return logits
