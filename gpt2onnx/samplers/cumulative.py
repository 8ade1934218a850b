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

Weights = NDArray[np.float32]
Sums = NDArray[np.float64]
Side = Literal["left", "right"]

BLOCK = 256
# Of a total: sums of doubles agree to this, in whatever order they are added up.
_TINY = 1e-9


def total(values: Weights) -> np.float32:  # [n]
    """The sum; of BLOCK values or fewer the same whatever zeros stand among them."""
    if len(values) <= BLOCK:
        return np.float32(values.astype(np.float64).cumsum().item(-1))
    summed: np.float32 = np.add.reduce(values)  # what `sum` comes to, sooner
    return summed


def total_of_each(values: Weights) -> Weights:  # [rows, n] -> [rows, 1]
    """The same of each row of BLOCK values or fewer."""
    return values.astype(np.float64).cumsum(axis=1)[:, -1:].astype(np.float32)


def reaching(weights: Weights, share: float, side: Side) -> int:  # [n] -> index
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


def reaching_each(
    weights: Weights, share: float | Sums, side: Side
) -> NDArray[np.intp]:  # [rows, n], [rows, 1] -> [rows, 1]
    """The same in each row of BLOCK weights or fewer."""
    sums = weights.astype(np.float64).cumsum(axis=1)
    last = sums[:, -1:]
    largest = last if side == "left" else np.nextafter(last, 0)
    target = np.minimum(share * last, largest)
    reached = sums >= target if side == "left" else sums > target
    places: NDArray[np.intp] = reached.argmax(axis=1, keepdims=True)
    return places


def block_sums(weights: Weights) -> Sums:  # [n] -> [blocks]
    """The sums of each BLOCK of weights."""
    sums: Sums = np.add.reduceat(weights, np.arange(0, len(weights), BLOCK), dtype=np.float64)
    return sums


def reaching_by_blocks(
    blocks: Weights | Sums,
    weights_of: Callable[[int], Weights],
    share: float,
    side: Side,
) -> int:  # [blocks] -> index
    """The same by the sums of all blocks of BLOCK weights, where only one block's are looked at."""
    reached = blocks.astype(np.float64).cumsum()
    target = share * reached.item(-1)
    block = int(reached.searchsorted(target, side))
    sums = weights_of(block).astype(np.float64).cumsum()
    return block * BLOCK + _place(sums, target - (reached.item(block - 1) if block else 0.0), side)


def surely_reaching(
    blocks: Weights | Sums,
    weights_of: Callable[[int], Weights],
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


def _place(sums: Sums, target: float, side: Side) -> int:  # [n] -> index
    """Where running sums come to `target`, which may be a rounding more than the last of them.

    A block's sum is added up in another order.
    """
    total = sums.item(-1)
    largest = total if side == "left" else math.nextafter(total, 0)
    return int(sums.searchsorted(min(target, largest), side))
