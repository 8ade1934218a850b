"""Rotates the queries, keys and values of each head, so that rounding falls on all of them alike.

Scores are q . k and an output is a mean of values times a matrix, so a head's queries and keys may
be turned by one orthogonal matrix, and its values by another if the output matrix turns them back:
the model stays the same. Few of a trained head's channels carry most of its scores, and a column's
rounding error is passed on as it is. Turned, each column has a share of all. As in QuaRot (Ashkboos
2024), https://arxiv.org/abs/2404.00456, but by the cosines of the DCT, which a head of any size has
(docs/notes/quantization.md). Not for an int8 cache, whose steps follow each channel.

Knows GPT-2's tensors; knows nothing of how they are rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.checkpoint.floats import require_finite
from gpt2onnx.export.quantization.smoothquant import Smoothed

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Rotated:
    """Smoothed weights with every head's queries, keys and values rotated.

    In this order: a channel that stands out among values is made small as long as it is one.
    """

    weights: Smoothed

    @property
    def config(self) -> Gpt2Config:
        return self.weights.config

    def tensor(self, name: str) -> Float:
        """One tensor, by its short name. Not to be written to. Raises WeightsError."""
        value = self.weights.tensor(name)
        if ".attn.c_attn." not in name and not name.endswith(".attn.c_proj.weight"):
            return value
        heads = value if ".c_attn." in name else value.T
        with np.errstate(all="ignore"):
            turned = heads.reshape(*heads.shape[:-1], -1, self.config.head_dim) @ self._rotation
        turned = require_finite(turned, f"{name}, rotated").reshape(heads.shape)
        return turned if ".c_attn." in name else turned.T

    def largest_held(self) -> Iterator[float]:
        """The most that each layer's keys and values may come to, by what they were before."""
        for largest in self.weights.largest_channels():
            yield float((largest.reshape(-1, self.config.head_dim) @ np.abs(self._rotation)).max())

    @property
    def _rotation(self) -> Float:
        return orthonormal_cosines(self.config.head_dim)


def orthonormal_cosines(size: int) -> Float:
    """The DCT-II's matrix [size, size], whose rows and columns are orthonormal."""
    number, place = np.ogrid[:size, :size]
    cosines = np.cos(np.pi * (2 * place + 1) * number / (2 * size)) * np.sqrt(2 / size)
    cosines[0] /= np.sqrt(2)
    single: Float = cosines.astype(np.float32)
    return single
