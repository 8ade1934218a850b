"""SmoothQuant: moves outliers from activations into weights, where rounding costs less.

A channel that a layer norm divides by s, and whose row of the next matrix is multiplied by s, is
the same to the model and easier to round. So are a value of the attention with its row of the
output matrix, and a hidden unit where the activation lets a scale through. SmoothQuant (Xiao 2022),
https://arxiv.org/abs/2211.10438, except that random tokens do where there is no text.

Hidden units, whose order is free, are sorted by size: what is large shares scales with its like.

Knows GPT-2's tensors; knows nothing of how they are rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.calibration.forward_pass import Ids, watch_layers
from gpt2onnx.export.checkpoint.checkpoint import Weights
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.checkpoint.floats import require_finite
from gpt2onnx.export.writing.progress import Track, silent

Float = NDArray[np.float32]

# The activation of s * x is that of x times s to this power, for a positive s.
HOMOGENEOUS = {"linear": 1, "relu": 1, "leaky_relu": 1, "relu2": 2}

# How much of an outlier goes to the weights.
POWER = 0.5


@dataclass(frozen=True)
class Smoothed:
    """A checkpoint's weights with scales folded in, where they are made and where they are read."""

    weights: Weights
    made: dict[str, Float]  # by layer norm or matrix: what its outputs are divided by, [out]
    read: dict[str, Float]  # by matrix: what its rows are multiplied by, [in]
    units: dict[str, NDArray[np.int64]]  # by feed-forward: its hidden units, the largest first
    largest: dict[str, Float]  # by what `watch` names: each channel's largest magnitude before

    @property
    def config(self) -> Gpt2Config:
        return self.weights.config

    def tensor(self, name: str) -> Float:
        """One tensor, by its short name. Not to be written to. Raises WeightsError."""
        with np.errstate(all="ignore"):
            return require_finite(self._scaled(name), f"{name}, smoothed")

    def largest_held(self) -> Iterator[float]:
        """Each layer's largest magnitude among keys and values: kv_cache's, without a pass more."""
        for largest in self.largest_channels():
            yield float(largest.max())

    def largest_channels(self) -> Iterator[Float]:
        """Each layer's largest magnitudes of keys and values, [2 * n_embd]."""
        for layer in range(self.config.n_layer):
            name = f"h.{layer}.attn"
            keys, values = self.largest[f"{name}.key"], self.largest[f"{name}.value"]
            scales = self.made[f"{name}.c_attn"][-len(values) :]
            yield np.concatenate([keys, values / scales])

    def _scaled(self, name: str) -> Float:
        value = self.weights.tensor(name)
        module, kind = name.rsplit(".", 1)
        if module in self.made:
            value = value / self.made[module]
        if module in self.read and kind == "weight":
            value = value * self.read[module][:, None]
        block, _, matrix = module.rpartition(".")
        if block not in self.units or name.endswith("c_proj.bias"):
            return value
        return value[..., self.units[block]] if matrix == "c_fc" else value[self.units[block]]


def smooth(weights: Weights, windows: Ids, track: Track = silent) -> Smoothed:
    """Scales by what each channel is at most while the model reads `windows` [count, tokens]."""
    largest = _largest_inputs(weights, windows, track)
    smoothed = Smoothed(weights, {}, {}, {}, largest)
    for maker, reader in _pairs(weights.config):
        rows = np.abs(smoothed.tensor(f"{reader}.weight")).max(axis=1)
        scales = _scales(largest[reader], rows)
        made = _made(weights.config, reader, scales)
        smoothed.made[maker], smoothed.read[reader] = made, scales
    for layer in range(weights.config.n_layer):
        block = f"h.{layer}.mlp"
        units = largest[f"{block}.c_proj"] / smoothed.read.get(f"{block}.c_proj", 1)
        smoothed.units[block] = np.argsort(-units, kind="stable")
    return smoothed


def _pairs(config: Gpt2Config) -> Iterator[tuple[str, str]]:
    """What makes channels, and the matrix that alone reads them; a matrix's outputs come first."""
    for layer in range(config.n_layer):
        yield f"h.{layer}.attn.c_attn", f"h.{layer}.attn.c_proj"
        yield f"h.{layer}.ln_1", f"h.{layer}.attn.c_attn"
        if config.activation_function in HOMOGENEOUS:
            yield f"h.{layer}.mlp.c_fc", f"h.{layer}.mlp.c_proj"
        yield f"h.{layer}.ln_2", f"h.{layer}.mlp.c_fc"


def _made(config: Gpt2Config, reader: str, scales: Float) -> Float:
    """What the outputs of the reader's maker are divided by, [out]."""
    if reader.endswith("attn.c_proj"):  # c_attn makes queries and keys as well
        return np.concatenate([np.ones(2 * len(scales), np.float32), scales])
    if reader.endswith("mlp.c_proj"):
        return scales ** np.float32(1 / HOMOGENEOUS[config.activation_function])
    return scales


def _scales(activations: Float, rows: Float) -> Float:
    """The paper's scales [in], around 1; 1 where a channel or its row is all zeros."""
    live = (activations > 0) & (rows > 0)
    scales = np.ones(len(rows), np.float32)
    if live.any():
        logs = POWER * np.log(activations[live]) - (1 - POWER) * np.log(rows[live])
        scales[live] = np.exp(logs - logs.mean())
    return scales


def _largest_inputs(weights: Weights, windows: Ids, track: Track) -> dict[str, Float]:
    """The largest magnitude of each input of each matrix, [in], and of each key and value."""
    largest: dict[str, Float] = {}

    def keep(name: str, x: Float) -> None:
        found = np.abs(x).max(axis=0).ravel()
        largest[name] = np.maximum(found, largest.get(name, found))

    layers = watch_layers(weights, windows, keep)
    for _ in track(range(weights.config.n_layer), "smoothing"):
        next(layers)
    return largest
