"""A checkpoint in PyTorch, by transformers: what exported models are compared with.

Knows tokens and logits. Needs torch and transformers, and imports them where they are used.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.checkpoint import Checkpoint

PACKAGES = ("torch", "transformers")


def missing(packages: tuple[str, ...] = PACKAGES) -> list[str]:
    """Those of some packages that aren't installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


class TorchModel:
    """GPT2LMHeadModel on the CPU, in single precision."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import GPT2LMHeadModel

        # SDPA attention passes over scale_attn_weights and its kin in transformers before 5.3.
        model = GPT2LMHeadModel.from_pretrained(checkpoint.folder, attn_implementation="eager")
        self._model: Any = model.float().eval()

    def logits(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits after each of ids [n]: [n, vocab]."""
        return next(self.pieces(ids, 0, len(ids)))

    def pieces(
        self, ids: NDArray[np.int64], first: int, size: int
    ) -> Iterator[NDArray[np.float32]]:
        """The logits after each of ids[first:], at most `size` at a time: [size, vocab]."""
        import torch

        with torch.inference_mode():
            hidden = self._model.transformer(torch.from_numpy(ids)[None]).last_hidden_state[0]
        for states in hidden[first:].split(size):
            with torch.inference_mode():
                logits: NDArray[np.float32] = self._model.lm_head(states).numpy()
            yield logits
