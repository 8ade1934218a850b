"""Attention heads of sizes that ONNX Runtime supports. Knows the config, not the graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.checkpoint.config import Gpt2Config

Float = NDArray[np.float32]

# GroupQueryAttention takes head sizes that are a multiple of 8; others are filled up with zeros.
HEAD_MULTIPLE = 8


def padded_head_dim(config: Gpt2Config) -> int:
    """The head size in the graph and in the cache."""
    return -(-config.head_dim // HEAD_MULTIPLE) * HEAD_MULTIPLE


def pad_heads(value: Float, config: Gpt2Config) -> Float:
    """[..., heads * head_dim] with zeros behind each head, which no dot product sees."""
    missing = padded_head_dim(config) - config.head_dim
    if not missing:
        return value
    heads = value.reshape(*value.shape[:-1], -1, config.head_dim)
    padding = [(0, 0)] * (heads.ndim - 1) + [(0, missing)]
    return np.pad(heads, padding).reshape(*value.shape[:-1], -1)
