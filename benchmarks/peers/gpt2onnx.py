"""gpt2onnx itself, by its decoder: what generate() and stream() run on.

Its time to the first token is that of the real command, which variants.py names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.engine import Engine as Base
from benchmarks.peers.engine import Ids, Logits
from gpt2onnx.runtime.decoder import reads


def convert(checkpoint: Path, folder: Path, **options: Any) -> None:
    import gpt2onnx.export

    gpt2onnx.export(checkpoint, folder, verify=False, force=True, **options)


class Engine(Base):
    def __init__(self, folder: Path, threads: int, graph: str) -> None:
        import gpt2onnx

        self.model = gpt2onnx.load(folder, provider="cpu", threads=threads, graph=graph)
        self.decoder = self.model.decoder
        self.rows: list[Any] = []

    def settings(self) -> dict[str, str]:
        return {"runs on": self.model.session.choice}

    def prompt(self, ids: Ids, room: int) -> Logits:
        for row in self.rows:
            self.decoder.free(row)
        self.decoder.reserve(len(ids), min(ids.shape[1] + room, self.decoder.n_positions))
        self.rows = [self.decoder.new_row() for _ in ids]
        return np.stack(
            [reads.prefill(self.decoder, *pair) for pair in zip(self.rows, ids, strict=True)]
        )

    def step(self, ids: Ids) -> Logits:
        return reads.step(self.decoder, self.rows, ids)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.model.tokenizer.encode(text).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        return self.model.tokenizer.decode(ids)
