"""The KV cache of a graph: in the activations' type, in float16, or in int8 with a scale a channel.

float16 is for gpt2onnx-kernels' graph alone: ONNX Runtime's operator has the cache in the
activations' type, and so has the graph beside it.

GroupQueryAttention rounds what it appends to an int8 cache to whole steps, of one size for all
(`PER_TENSOR`) or of one for each channel (`PER_CHANNEL`), which is slower
(docs/notes/decoder.md). So all steps are 1 here, and the numbers are brought to them outside of it:

- scores are q . k, so keys are divided by their steps and queries multiplied by them; what is taken
  from all keys alike changes a query's scores by the same, which the softmax doesn't see. All of
  this is done to c_attn's columns, each of which is rounded by itself in every precision.
- the output is a mean of values, so values are divided and the output is multiplied.

Knows attention's weights and what ONNX Runtime's kernels take; nothing of the graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import Advised, Given, ParameterError, Plain
from gpt2onnx.export.calibration.forward_pass import watch_layers
from gpt2onnx.export.checkpoint.checkpoint import Weights
from gpt2onnx.export.checkpoint.floats import require_finite
from gpt2onnx.export.quantization.table import those
from gpt2onnx.export.writing.progress import Track, silent

Float = NDArray[np.float32]
Ids = NDArray[np.int64]

# What may be asked for; the plan makes one of the others of "auto".
KV_CACHES = ("auto", "float", "float16", "int8")
# GroupQueryAttention's own for each.
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "float": {},
    "float16": {},
    "int8": {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8},
}
LEVELS = 127
# Ranges are widened, because a text to come goes beyond the text that was seen: see
# docs/notes/decoder.md.
MARGIN = 1.5


@dataclass(frozen=True)
class CacheGrid:
    """Where one layer's keys and values have their levels: all [heads * head_dim].

    A key is stored as the whole number next to (key - key_middle) / key_step, a value as that next
    to value / value_step.
    """

    key_middle: Float
    key_step: Float
    value_step: Float

    @classmethod
    def of(cls, keys: Float, values: Float) -> CacheGrid:
        """The grid that `keys` and `values` [tokens, heads * head_dim] fill, but for the margin."""
        low, high = keys.min(axis=0), keys.max(axis=0)
        require_finite(high - low, "keys of the cache")
        return cls((low + high) / 2, _step((high - low) / 2), _step(np.abs(values).max(axis=0)))

    def place(self, weight: Float, bias: Float) -> tuple[Float, Float]:
        """c_attn, weight [n_embd, 3 * width] and bias, with keys and values on the grid."""
        ones, zeros = np.ones_like(self.key_step), np.zeros_like(self.key_step)
        factor = np.concatenate([self.key_step, ones / self.key_step, ones / self.value_step])
        middle = np.concatenate([zeros, self.key_middle, zeros])
        with np.errstate(all="ignore"):
            placed = weight * factor, (bias - middle) * factor
        for part in placed:
            require_finite(part, "c_attn, on the cache's grid")
        return placed


def calibrate(weights: Weights, windows: Ids, track: Track = silent) -> list[CacheGrid]:
    """A grid for each layer, from what windows of ids [windows, tokens] put into the cache."""
    return [CacheGrid.of(keys, values) for keys, values in _held(weights, windows, track)]


def largest_held(weights: Weights, windows: Ids, track: Track = silent) -> Iterator[float]:
    """Each layer's largest magnitude among the keys and values of windows of ids."""
    for held in _held(weights, windows, track):
        yield max(float(np.abs(part).max()) for part in held)


def beyond_half(largest: Iterable[float]) -> str:
    """Where the layers' largest keys and values come near float16's end; empty if nowhere."""
    most = float(np.finfo(np.float16).max) / MARGIN
    for layer, reached in enumerate(largest):
        if not reached <= most:
            return (
                f"keys and values of layer {layer} reach {reached:,.0f}: expected {most:,.0f} at"
                " most, so that half precision holds those of other texts"
            )
    return ""


def _held(weights: Weights, windows: Ids, track: Track) -> Iterator[tuple[Float, Float]]:
    """Each layer's keys and values [tokens, heads * head_dim] of windows of ids."""
    told: dict[str, list[Float]] = defaultdict(list)

    def watcher(name: str, x: Float) -> None:
        if name.endswith((".key", ".value")):
            told[name].append(x.reshape(len(x), -1))

    layers = watch_layers(weights, windows, watcher)
    for layer in track(range(weights.config.n_layer), "calibrating"):
        next(layers)
        keys, values = (told.pop(f"h.{layer}.attn.{part}") for part in ("key", "value"))
        yield np.concatenate(keys), np.concatenate(values)


def check_kv_cache(kv_cache: str, graph: str, precision: str, device: str) -> None:
    """See that there are kernels for a cache. Raises ParameterError."""
    if kv_cache == "float":
        return
    precisions = those(lambda each: each.int8_cache if kv_cache == "int8" else each.kernels)
    for option, value, wanted in (
        ("graph", graph, ("fused",)),
        ("device", device, ("cpu",)),
        ("precision", precision, precisions),
    ):
        if value not in wanted:
            raise ParameterError(
                *(Given("kv_cache", kv_cache), " needs "),
                Advised(option, Plain(" or ".join(map(repr, wanted)))),
                *(f", got {value!r}; use ", Advised("kv_cache", "float")),
            )


def _step(largest: Float) -> Float:
    """The size of a step where `largest` is to be within LEVELS; 1 where all there is is zero."""
    step = largest * np.float32(MARGIN / LEVELS)
    return np.where(step > np.finfo(np.float32).tiny, step, np.float32(1))
