"""OpenVINO, with the model that optimum-intel makes: INT8 weights, or float for bfloat16.

Latency hint with the given threads; inference precision and KV cache precision are OpenVINO's own
choice unless an option names them, and stand among the settings. As OpenVINO GenAI does, the head
is cut to the last position, and a cache folder shortens later starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.engine import Engine as Base
from benchmarks.peers.engine import Ids, Logits, TokenizersText

TOLD = ("INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION", "DYNAMIC_QUANTIZATION_GROUP_SIZE")


def convert(checkpoint: Path, folder: Path, int8: bool) -> None:
    from optimum.intel import OVModelForCausalLM
    from transformers import AutoTokenizer

    model = OVModelForCausalLM.from_pretrained(
        checkpoint, export=True, compile=False, load_in_8bit=int8
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)


class Engine(TokenizersText, Base):
    def __init__(self, folder: Path, threads: int, precision: str | None = None) -> None:
        import openvino

        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "CACHE_DIR": str(folder.with_name(f"{folder.name}-cache")),
        }
        if precision:
            options["INFERENCE_PRECISION_HINT"] = precision
        model = openvino.Core().read_model(folder / "openvino_model.xml")
        cut_to_last_position(model)
        self.compiled = openvino.compile_model(model, "CPU", options)
        self.rows = 0
        self.request: Any = None
        self.read_tokenizer(folder)

    def settings(self) -> dict[str, str]:
        values = {name: self.compiled.get_property(name) for name in TOLD}
        return {
            name: value.to_string() if hasattr(value, "to_string") else str(value)
            for name, value in values.items()
        }

    def prompt(self, ids: Ids, room: int) -> Logits:
        if len(ids) != self.rows:  # a request that has run fewer rows gives NaN for the others
            self.rows, self.request = len(ids), self.compiled.create_infer_request()
        self.request.reset_state()
        self.length = 0
        return self.run(ids)

    def step(self, ids: Ids) -> Logits:
        return self.run(ids[:, None])

    def run(self, ids: Ids) -> Logits:
        past, self.length = self.length, self.length + ids.shape[1]
        feeds = {
            "input_ids": ids,
            "attention_mask": np.ones((len(ids), self.length), np.int64),
            "position_ids": np.tile(np.arange(past, self.length), (len(ids), 1)),
            "beam_idx": np.arange(len(ids), dtype=np.int32),
        }
        self.request.infer(feeds, share_inputs=True, share_outputs=True)
        logits: Logits = self.request.get_output_tensor(0).data[:, -1]
        return logits


def cut_to_last_position(model: Any) -> None:
    """Put a slice before the head, so that a prompt has one row of logits."""
    from openvino import opset13

    head = model.get_results()[0].input_value(0).get_node()
    last, one = opset13.constant(np.array([-1])), opset13.constant(np.array([1]))
    end, axis = opset13.constant(np.array([2**31 - 1])), opset13.constant(np.array([1]))
    hidden = opset13.slice(head.input_value(0), last, end, one, axis)
    head.input(0).replace_source_output(hidden.output(0))
    model.validate_nodes_and_infer_types()
