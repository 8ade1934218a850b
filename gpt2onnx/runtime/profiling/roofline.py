"""Roofline: the least time that a step can take, its bytes over the memory's bandwidth.

Knows numpy's threads and a graph's inputs; knows nothing of what runs the graph.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.ort.session import TensorSpec

# No cache is larger than the largest buffer; a round reads long enough to be timed.
SMALLEST, LARGEST, ROUND = 1 << 20, 1 << 30, 1 << 28
ROUNDS = 5


def cache_bytes_per_token(inputs: Mapping[str, TensorSpec]) -> int:
    """Bytes of keys and values, of all layers: the sizes that aren't free are those of a token."""
    return sum(
        spec.dtype.itemsize * math.prod(n for n in spec.shape if isinstance(n, int))
        for name, spec in inputs.items()
        if name.startswith("past_key_values.")
    )


def read_bandwidth(size: int, threads: int) -> float:
    """Bytes a second that so many threads together read of a buffer of `size` bytes, at best.

    They read it again and again, each its own part, so that a buffer which fits a cache is read
    from there, as weights of that size would be.
    """
    size = min(max(size, SMALLEST), LARGEST)
    parts = np.array_split(np.ones(size // 4, np.int32), threads)
    passes = -(-ROUND // size)

    def read(part: NDArray[np.int32]) -> None:
        for _ in range(passes):
            part.max()  # vectorized, without the interpreter's lock, and faster than memory

    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            list(pool.map(read, parts))
            seconds.append(time.perf_counter() - started)
    return passes * size / min(seconds)
