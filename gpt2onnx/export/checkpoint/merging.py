"""A checkpoint with adapters merged into its weights, in float32, as PEFT computes with them.

Where embedding and head are one, an adapter may change one of them alone; then the merged model has
two. PEFT's own merge of two factors changes both there, and warns that it isn't what was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.checkpoint.adapter import Adapter
from gpt2onnx.export.checkpoint.checkpoint import HEAD, Checkpoint, tensor_shapes

EMBEDDING = "wte.weight"
TIED = (EMBEDDING, HEAD)


def with_adapters(checkpoint: Checkpoint, adapters: Sequence[Adapter]) -> Checkpoint:
    """The checkpoint that comes of merging one adapter after the other; `checkpoint` was checked.

    Raises AdapterError where one doesn't fit it.
    """
    return reduce(_merged, adapters, checkpoint)


def _merged(checkpoint: Checkpoint, adapter: Adapter) -> Checkpoint:
    config = checkpoint.config
    whole = replace(config, tie_word_embeddings=False)
    adapter.check(tensor_shapes(whole))
    tensors = MergedTensors(checkpoint, adapter, tensor_shapes(whole))
    adapters = (*checkpoint.adapters, adapter)
    if not config.tie_word_embeddings or tensors.are_tied():
        tensors = MergedTensors(checkpoint, adapter, tensor_shapes(config))
        return replace(checkpoint, tensors=tensors, adapters=adapters)
    config_json = {**checkpoint.config_json, "tie_word_embeddings": False}
    return replace(
        checkpoint, tensors=tensors, adapters=adapters, config=whole, config_json=config_json
    )


class MergedTensors:
    """The tensors of `shapes` by their short names, merged when they are read; see `Tensors`."""

    as_saved = False

    def __init__(
        self, checkpoint: Checkpoint, adapter: Adapter, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._checkpoint, self._adapter, self._shapes = checkpoint, adapter, shapes

    def names(self) -> frozenset[str]:
        return frozenset(self._shapes)

    def file(self, name: str) -> Path:
        return self._checkpoint.folder

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def dtype(self, name: str) -> str:
        return "F32"

    def read(self, name: str) -> NDArray[np.float32]:
        saved, delta = self._adapter.saved(name), self._adapter.delta(name)
        values = self._base(name) if saved is None else saved
        return values if delta is None else values + delta

    def are_tied(self) -> bool:
        """Whether embedding and head, which were one, still have the same values."""
        if not any(self._adapter.changes(name.removesuffix(".weight")) for name in TIED):
            return True
        return np.array_equal(self.read(EMBEDDING), self.read(HEAD))

    def _base(self, name: str) -> NDArray[np.float32]:
        """The base model's own. A tied one is the same under both its names."""
        tied = name in TIED and self._checkpoint.config.tie_word_embeddings
        beside = map(self._adapter.base, TIED if tied else (name,))
        saved = next((values for values in beside if values is not None), None)
        return self._checkpoint.tensor(EMBEDDING if tied else name) if saved is None else saved
