"""What a token takes in the KV cache. Knows a graph's inputs by name; reads nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gpt2onnx.runtime.ort.session import TensorSpec


def cache_bytes_per_token(inputs: Mapping[str, TensorSpec]) -> int:
    """Bytes of keys and values, of all layers: the sizes that aren't free are those of a token."""
    return sum(
        spec.dtype.itemsize * math.prod(n for n in spec.shape if isinstance(n, int))
        for name, spec in inputs.items()
        if name.startswith("past_key_values.")
    )
