"""RayPredictor: a model as a step of a Ray Data pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpt2onnx.serving.engine import Engine
from gpt2onnx.serving.handle import Handle


class RayPredictor:
    """Adds a column `text` to batches with a column `prompt`; `map_batches` makes one an actor.

    `parameters` are Engine.submit's. Where there is a column `seed`, a row's draws follow from that
    alone, whatever batch and actor it comes to.
    """

    def __init__(self, model: str = "demo", threads: int = 1, **parameters: Any) -> None:
        self._engine = Engine(model, threads=threads, max_waiting=100_000)
        self._parameters = parameters

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        columns = [batch[name] for name in ("prompt", "seed") if name in batch]
        handles = [self._submit(*row) for row in zip(*columns, strict=True)]
        return {**batch, "text": np.array([each.result().text for each in handles], dtype=object)}

    def _submit(self, prompt: object, seed: int | None = None) -> Handle:
        seeded = self._parameters if seed is None else {**self._parameters, "seed": int(seed)}
        return self._engine.submit(str(prompt), **seeded)
