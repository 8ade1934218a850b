"""Queries of a layer that comes to stand at another place.

scale_attn_by_inverse_layer_idx divides attention scores by a layer's place, so one that moves has
its queries multiplied by what that changes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.checkpoint.config import Gpt2Config

Float = NDArray[np.float32]


def moved(qkv: Float, config: Gpt2Config, source: int, to: int) -> Float:
    """attn.c_attn's weight or bias [..., 3 * n_embd] of layer `source` for a layer `to`."""
    factor = config.scale(source) / config.scale(to)
    if factor == 1:
        return qkv
    queries = qkv[..., : config.n_embd] * np.float32(factor)
    return np.concatenate([queries, qkv[..., config.n_embd :]], axis=-1)
