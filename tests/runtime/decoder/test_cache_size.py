from __future__ import annotations

import numpy as np

from gpt2onnx.runtime.decoder.cache_size import cache_bytes_per_token
from gpt2onnx.runtime.ort.session import TensorSpec


def test_the_cache_of_a_token() -> None:
    half = TensorSpec(np.dtype(np.float16), ("batch", 12, "past", 64))
    inputs = {
        "input_ids": TensorSpec(np.dtype(np.int64), ("batch", "sequence")),
        "past_key_values.0.key": half,
        "past_key_values.0.value": half,
    }
    assert cache_bytes_per_token(inputs) == 2 * 12 * 64 * 2
