"""Optimum's ORTModelForCausalLM: its own export, and that export with its dynamic INT8.

INT8 is ORTQuantizer's recipe for the processor at hand (AVX512-VNNI or arm64), as documented. The
session gets the threads; everything else is the default.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.engine import Engine as Base
from benchmarks.peers.engine import Ids, Logits, TokenizersText


def convert(checkpoint: Path, folder: Path, int8: bool = False) -> None:
    from optimum.onnxruntime import ORTModelForCausalLM, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig
    from transformers import AutoTokenizer

    model = ORTModelForCausalLM.from_pretrained(checkpoint, export=True)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    if int8:
        arm = platform.machine() in ("aarch64", "arm64")
        recipe = AutoQuantizationConfig.arm64 if arm else AutoQuantizationConfig.avx512_vnni
        quantizer = ORTQuantizer.from_pretrained(folder, file_name="model.onnx")
        quantizer.quantize(recipe(is_static=False, per_channel=False), save_dir=folder)
        for file in folder.glob("model.onnx*"):
            file.unlink()


class Engine(TokenizersText, Base):
    def __init__(self, folder: Path, threads: int) -> None:
        from onnxruntime import SessionOptions
        from optimum.onnxruntime import ORTModelForCausalLM

        torch.set_num_threads(threads)
        options = SessionOptions()
        options.intra_op_num_threads = threads
        self.model: Any = ORTModelForCausalLM.from_pretrained(folder, session_options=options)
        self.folder = folder

    def prompt(self, ids: Ids, room: int) -> Logits:
        self.past, self.length = None, 0
        return self.run(ids)

    def step(self, ids: Ids) -> Logits:
        return self.run(ids[:, None])

    def run(self, ids: Ids) -> Logits:
        self.length += ids.shape[1]
        output = self.model(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.ones(len(ids), self.length, dtype=torch.int64),
            past_key_values=self.past,
            use_cache=True,
        )
        self.past = output.past_key_values
        logits: Logits = output.logits[:, -1].numpy()
        return logits

    def encode(self, text: str) -> list[int]:
        """By AutoTokenizer, as its users would."""
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(self.folder).backend_tokenizer
        return super().encode(text)
