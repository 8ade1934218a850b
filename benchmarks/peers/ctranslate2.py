"""CTranslate2's Generator with INT8 weights, which it multiplies with INT8 activations.

It hands out no logits while it decodes: times are those between its callbacks, a token each, with
its own argmax inside; forced logits come from forward_batch, the whole text at once. One worker of
`threads` threads (inter_threads=1), its documentation's setting for latency.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks.peers.engine import Engine as Base
from benchmarks.peers.engine import Ids, Logits, OnStep, TokenizersText


def convert(checkpoint: Path, folder: Path, quantization: str) -> None:
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoTokenizer

    TransformersConverter(str(checkpoint)).convert(str(folder), quantization=quantization)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder / "tokenizer")
    shutil.copy(folder / "tokenizer" / "tokenizer.json", folder)
    shutil.rmtree(folder / "tokenizer")


class Engine(TokenizersText, Base):
    can_be_forced = False

    def __init__(self, folder: Path, threads: int, compute_type: str) -> None:
        from ctranslate2 import Generator

        self.generator = Generator(
            str(folder), compute_type=compute_type, inter_threads=1, intra_threads=threads
        )
        self.names = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        self.read_tokenizer(folder)

    def settings(self) -> dict[str, str]:
        return {"compute_type": self.generator.compute_type}

    def greedy(self, prompts: Ids, count: int, on_step: OnStep, forced: Ids | None = None) -> None:
        rows: list[int] = []

        def collect(result: object) -> bool:
            rows.append(result.token_id)  # type: ignore[attr-defined]
            if len(rows) == len(prompts):
                on_step(rows.copy())
                rows.clear()
            return False

        self.generator.generate_batch(
            [[self.names[id] for id in row] for row in prompts],
            max_length=count,
            end_token=[],
            include_prompt_in_result=False,
            callback=collect,
        )

    def logits(self, ids: Ids, start: int) -> Logits:
        all_logits = np.array(self.generator.forward_batch([ids.tolist()]))[0]
        return np.asarray(all_logits[start - 1 :], np.float32)
