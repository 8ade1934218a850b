"""A GPT-2 with some of its layers and some of their hidden units, as `Weights`.

Knows names and shapes; knows nothing of how layers and units are chosen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.checkpoint.checkpoint import Weights
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.smaller.queries import moved

Float = NDArray[np.float32]
NAME = re.compile(r"h\.([0-9]+)\.(.+)", re.ASCII)


@dataclass(frozen=True)
class Layer:
    """A layer that is kept: which one it was, which units [inner], and their way out.

    weight, bias: mlp.c_proj's, [inner, n_embd] and [n_embd].
    """

    source: int
    units: NDArray[np.int64]
    weight: Float
    bias: Float


@dataclass(frozen=True)
class Pruned:
    """Weights without some layers and units; see `Weights`."""

    weights: Weights
    layers: Sequence[Layer]

    @property
    def config(self) -> Gpt2Config:
        inner = len(self.layers[0].units)
        return replace(self.weights.config, n_layer=len(self.layers), n_inner=inner)

    def tensor(self, name: str) -> Float:
        found = NAME.fullmatch(name)
        return self._of_layer(int(found[1]), found[2]) if found else self.weights.tensor(name)

    def _of_layer(self, index: int, name: str) -> Float:
        layer = self.layers[index]
        if name == "mlp.c_proj.weight":
            return layer.weight
        if name == "mlp.c_proj.bias":
            return layer.bias
        values = self.weights.tensor(f"h.{layer.source}.{name}")
        if name.startswith("mlp.c_fc"):
            return values[..., layer.units]
        if name.startswith("attn.c_attn"):
            return moved(values, self.weights.config, layer.source, index)
        return values
