"""transformers' GPT-2 over keys and values that are rounded, as an int8 cache holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel
from transformers.models.gpt2 import modeling_gpt2

from gpt2onnx.export.graph.kv_cache import CacheGrid
from tests.export.logits import Ids, reference_logits

Float = NDArray[np.float32]
Change = Callable[[int, Any, Any], tuple[Any, Any]]

LOWEST = -128


@contextmanager
def attention_over(change: Change) -> Iterator[None]:
    """transformers' attention with `change` of each layer's keys and values [1, heads, n, size]."""
    plain = modeling_gpt2.eager_attention_forward

    def changed(module: Any, query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> Any:
        return plain(module, query, *change(module.layer_idx, key, value), *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_gpt2, "eager_attention_forward", changed)
        yield


def keys_and_values(model: GPT2LMHeadModel, ids: Ids) -> list[tuple[Float, Float]]:
    """Each layer's [n, heads * size], as transformers computes them for ids [n]."""
    seen: list[tuple[Float, Float]] = []

    def note(layer: int, *parts: Any) -> Any:
        rows = [part[0].transpose(0, 1).flatten(1).numpy().copy() for part in parts]
        seen.append((rows[0], rows[1]))
        return parts

    with attention_over(note):
        reference_logits(model, ids)
    return seen


def calibrated(model: GPT2LMHeadModel, shape: tuple[int, int]) -> list[CacheGrid]:
    """The grids of an export without a text, from transformers' own keys and values."""
    texts = np.random.default_rng(0).integers(model.config.vocab_size, size=shape)
    layers = zip(*(keys_and_values(model, text) for text in texts), strict=True)
    return [
        CacheGrid.of(*(np.concatenate(part) for part in zip(*layer, strict=True)))
        for layer in layers
    ]


def rounding(grids: Sequence[CacheGrid]) -> Change:
    """Keys and values become what is left of them on the grids."""

    def change(layer: int, key: Any, value: Any) -> tuple[Any, Any]:
        grid = grids[layer]
        return (
            on_levels(key, grid.key_middle, grid.key_step),
            on_levels(value, 0 * grid.value_step, grid.value_step),
        )

    return change


def on_levels(numbers: Any, middle: Float, step: Float) -> Any:
    """numbers [1, heads, n, size]; middle and step [heads * size]."""
    heads = numbers.shape[1]
    middles, steps = (torch.from_numpy(part.reshape(heads, 1, -1)) for part in (middle, step))
    return ((numbers - middles) / steps).round().clip(LOWEST, 127) * steps + middles
