"""Roofline: the least time that a step can take, by what it reads and by what it multiplies.

Knows numpy's threads and a model's sizes; knows nothing of how it runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# No cache is larger than the largest buffer; a round reads long enough to be timed.
SMALLEST, LARGEST, ROUND = 1 << 20, 1 << 30, 1 << 28
ROUNDS = 5
MEMORY, ARITHMETIC = "memory", "arithmetic"


class Bound(NamedTuple):
    """What takes a run's time at the least: MEMORY or ARITHMETIC."""

    name: str
    seconds: float


def bound(
    bytes_read: int, bandwidth: float, operations: int | None, arithmetic: float | None
) -> Bound:
    """Reading at so many bytes a second, or operations at so many a second if that takes longer."""
    bounds = [Bound(MEMORY, bytes_read / bandwidth)]
    if operations and arithmetic:
        bounds.append(Bound(ARITHMETIC, operations / arithmetic))
    return max(bounds, key=lambda each: each.seconds)


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


def operations(config: Mapping[str, Any], tokens: int, before: int) -> int | None:
    """What a run of `tokens` behind `before` others multiplies and adds, the head for the last one.

    None where the config isn't by GPT-2's own names.
    """
    names = ("n_layer", "n_embd", "vocab_size")
    if not all(type(config.get(name)) is int for name in names):
        return None
    layers, width, vocab_size = (config[name] for name in names)
    inner = config.get("n_inner") or 4 * width
    seen = tokens * before + tokens * (tokens + 1) // 2  # by all of them together
    matrices = width * (4 * width + 2 * inner)
    return int(2 * (layers * (tokens * matrices + 2 * width * seen) + width * vocab_size))
