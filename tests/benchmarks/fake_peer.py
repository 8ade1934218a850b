"""An engine whose next token is one more than the last, modulo the vocabulary; it can misbehave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.peers.engine import Engine as Base
from benchmarks.peers.engine import Ids, Logits


def convert(checkpoint: Path, folder: Path, broken: str = "") -> None:
    if broken == "convert":
        raise ValueError("no such weights")
    folder.mkdir()
    (folder / "config.json").write_bytes((checkpoint / "config.json").read_bytes())


class Engine(Base):
    """`broken` names what fails; `off_by` is added to every prediction."""

    def __init__(self, folder: Path, threads: int, broken: str = "", off_by: int = 0) -> None:
        self.vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
        self.broken, self.off_by = broken, off_by

    def settings(self) -> dict[str, str]:
        return {"kind": "fake"}

    def prompt(self, ids: Ids, room: int) -> Logits:
        if self.broken == "rows" and len(ids) > 1:
            raise ValueError("one row alone")
        if self.broken == "exit":
            raise SystemExit(3)
        return self.step(ids[:, -1])

    def step(self, ids: Ids) -> Logits:
        logits = np.zeros((len(ids), self.vocab_size), np.float32)
        logits[np.arange(len(ids)), (ids + 1 + self.off_by) % self.vocab_size] = 1
        return logits

    def encode(self, text: str) -> list[int]:
        return [len(text)]

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))
