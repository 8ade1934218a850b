"""A checkpoint in PyTorch, loaded by transformers: the reference of a verification.

Knows tokens and logits. Needs torch and transformers, and imports them where they are used.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import CheckpointError
from gpt2onnx.export.checkpoint.checkpoint import HEAD, PREFIX, Checkpoint, Weights, tensor_shapes

PACKAGES = ("torch", "transformers")
# SDPA attention passes over scale_attn_weights and its kin in transformers before 5.3.
EAGER = {"attn_implementation": "eager"}


def missing(packages: tuple[str, ...] = PACKAGES) -> list[str]:
    """Those of some packages that aren't installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


class TorchModel:
    """GPT2LMHeadModel on the CPU, in single precision."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises CheckpointError where transformers can't load it."""
        # Read by transformers itself where it can, so that both ways of reading are compared.
        as_saved = checkpoint.tensors.as_saved
        self._model: Any = load(checkpoint) if as_saved else load_model(checkpoint, checkpoint)

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


def load(checkpoint: Checkpoint) -> Any:
    """transformers.GPT2LMHeadModel in single precision, with the weights that it finds itself."""
    from transformers import GPT2LMHeadModel

    with _errors(checkpoint):
        model = GPT2LMHeadModel.from_pretrained(checkpoint.folder, **EAGER)
        return model.float().eval()


def load_model(checkpoint: Checkpoint, weights: Weights) -> Any:
    """transformers.GPT2LMHeadModel in single precision, with these weights.

    Raises CheckpointError where transformers refuses the config.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    with warnings.catch_warnings():
        # Of arrays that aren't to be written to, which nobody does here.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        state_dict = {
            name if name == HEAD else PREFIX + name: torch.from_numpy(weights.tensor(name))
            for name in tensor_shapes(checkpoint.config)
        }
    with _errors(checkpoint):
        model = GPT2LMHeadModel.from_pretrained(
            None, config=GPT2Config(**checkpoint.config_json), state_dict=state_dict, **EAGER
        )
        return model.float().eval()


@contextmanager
def _errors(checkpoint: Checkpoint) -> Iterator[None]:
    """What transformers raises of a checkpoint, in one line."""
    try:
        yield
    except Exception as error:  # of any type: whatever the config's options lead to
        raise CheckpointError(
            f"{checkpoint.folder}: transformers can't load it ({type(error).__name__}:"
            f" {error!s:.300}); mend config.json, or export without PyTorch's check by"
            " verify=False (--no-verify)",
            path=checkpoint.folder,
        ) from error
