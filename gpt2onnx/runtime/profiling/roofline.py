"""Roofline: the least time that a step can take, its bytes over the memory's bandwidth.

Knows numpy's threads; knows nothing of what is read.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

# No cache is larger than the largest buffer; a round reads long enough to be timed.
SMALLEST, LARGEST, ROUND = 1 << 20, 1 << 30, 1 << 28
ROUNDS = 5


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
