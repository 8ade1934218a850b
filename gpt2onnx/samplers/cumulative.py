"""First index where the cumulative sum reaches a fraction of the total.

A cumulative sum over a vocabulary is the slowest part of a draw, so whole blocks are summed first,
and only the block in question number by number. Knows nothing of what the weights are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.samplers.candidates import FloatArray

Sums = NDArray[np.float64]

BLOCK = 256
# Of a total: sums of doubles agree to this, in whatever order they are added up.
_TINY = 1e-9


def reaching(
    weights: FloatArray, share: float, side: Literal["left", "right"]
) -> int:  # [n] -> index
    """The first index up to which the weights sum to at least `share` of them all.

    As in np.searchsorted that is side "left"; "right" asks for more than `share`, and then the
    answer is never a weight of 0. Weights are at least 0, one of them above it, and are summed in
    float64; `share` is from 0 to below 1.
    """
    if len(weights) <= BLOCK:
        sums = weights.astype(np.float64).cumsum()  # faster than to convert while summing
        return _place(sums, share * sums.item(-1), side)
    return reaching_by_blocks(
        block_sums(weights), lambda block: weights[block * BLOCK : (block + 1) * BLOCK], share, side
    )


def block_sums(weights: FloatArray) -> Sums:  # [n] -> [blocks]
    """The sums of each BLOCK of weights."""
    sums: Sums = np.add.reduceat(weights, np.arange(0, len(weights), BLOCK), dtype=np.float64)
    return sums


def reaching_by_blocks(
    blocks: FloatArray | Sums,
    weights_of: Callable[[int], FloatArray],
    share: float,
    side: Literal["left", "right"],
) -> int:  # [blocks] -> index
    """The same by the sums of all blocks of BLOCK weights, where only one block's are looked at."""
    reached = blocks.astype(np.float64).cumsum()
    target = share * reached.item(-1)
    block = int(reached.searchsorted(target, side))
    sums = weights_of(block).astype(np.float64).cumsum()
    return block * BLOCK + _place(sums, target - (reached.item(block - 1) if block else 0.0), side)


def surely_reaching(
    blocks: FloatArray | Sums,
    weights_of: Callable[[int], FloatArray],
    share: float,
    rounding: float,
    apart: float,
) -> int | None:  # [blocks] -> index
    """The same, on the right side, by sums each of which may be wrong: by the share `rounding` of
    it, and by `apart`.

    None where that could move the index. A block's weights are exact.
    """
    reached = blocks.astype(np.float64).cumsum()
    total = reached.item(-1)
    target = share * total
    block = int(reached.searchsorted(target, "right"))
    if block == len(reached):
        return None
    sums = weights_of(block).astype(np.float64).cumsum()
    target -= reached.item(block - 1) if block else 0.0
    place = int(sums.searchsorted(target, "right"))
    if place == len(sums):
        return None
    # What is before the target and what is behind it move it by the other's share, and the block by
    # more where its own sum is wrong.
    around = 2 * share * (1 - share) * total + float(blocks[block])
    doubt = rounding * around + len(blocks) * apart + _TINY * total
    before = sums.item(place - 1) if place else 0.0
    return block * BLOCK + place if before + doubt < target < sums.item(place) - doubt else None


def _place(sums: Sums, target: float, side: Literal["left", "right"]) -> int:  # [n] -> index
    """Where running sums come to `target`, which may be a rounding more than the last of them.

    A block's sum is added up in another order.
    """
    total = sums.item(-1)
    largest = total if side == "left" else math.nextafter(total, 0)
    return int(sums.searchsorted(min(target, largest), side))
