"""GPTQ: block quantization in which later columns make up for each column's rounding error.

Frantar 2022, https://arxiv.org/abs/2210.17323. Plain numpy; knows no graph and no model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpt2onnx.export.quantization.rounding import (
    Blocks,
    as_stored,
    pack,
    round_levels,
    signed_scales,
)

Float = NDArray[np.float32]

# Inputs whose errors make up for each other: bounds time and memory, which grow with its square.
GROUP = 1024
# Added to the diagonal, of its mean: what a short text leaves undecided.
DAMPING = 0.01
# The scale is searched among these parts of what fits the block's largest weight, either sign.
PARTS = tuple(np.float32(sign * part / 20) for part in range(20, 14, -1) for sign in (1, -1))


def quantize_gptq(
    weight: Float, moments: Float, bits: int, block_size: int, dtype: DTypeLike = np.float32
) -> Blocks:
    """As quantize_blocks, of [out, in], for inputs of which x.T @ x is known.

    moments: [groups, GROUP, GROUP] or one smaller group, zeros where `in` ends before.
    """
    size = moments.shape[1]
    padded = np.zeros((len(weight), len(moments) * size), np.float32)
    padded[:, : weight.shape[1]] = weight
    parts = [
        _round_group(padded[:, start * size : (start + 1) * size], group, bits, block_size, dtype)
        for start, group in enumerate(moments)
    ]
    levels, scales = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    count = -(-weight.shape[1] // block_size)
    return Blocks(pack(levels[:, :count], bits), scales[:, :count])


def _round_group(
    weight: Float, moments: Float, bits: int, block_size: int, dtype: DTypeLike
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Levels [out, blocks, block_size] and scales [out, blocks] of [out, in]; overwrites it."""
    factor = _inverse_factor(moments)
    importance = np.diagonal(moments)
    levels, scales = [], []
    for start in range(0, weight.shape[1], block_size):
        end = start + block_size
        block = weight[:, start:end]
        scale = _best_scales(block, importance[start:end], bits, dtype)
        found, errors = _round_block(block, scale, factor[start:end, start:end], bits)
        weight[:, end:] -= errors @ factor[start:end, end:]
        levels.append(found)
        scales.append(scale)
    return np.stack(levels, axis=1), np.stack(scales, axis=1)


def _round_block(
    block: Float, scales: NDArray[Any], factor: Float, bits: int
) -> tuple[NDArray[np.uint8], Float]:
    """Levels [out, block_size], and errors to pass on, over the factor's diagonal."""
    levels, errors = np.empty(block.shape, np.uint8), np.empty_like(block)
    for column in range(block.shape[1]):
        found = round_levels(block[:, column], scales, bits)
        levels[:, column] = found
        error = block[:, column] - _value(found, scales, bits)
        errors[:, column] = error / factor[column, column]
        block[:, column + 1 :] -= np.outer(errors[:, column], factor[column, column + 1 :])
    return levels, errors


def _inverse_factor(moments: Float) -> Float:
    """The upper Cholesky factor of the inverse of x.T @ x, [in, in]."""
    damped = moments.astype(np.float64)
    mean = np.trace(damped) / len(damped)
    damped[np.diag_indices_from(damped)] += DAMPING * mean if mean > 0 else 1
    factor: Float = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    return factor


def _best_scales(block: Float, importance: Float, bits: int, dtype: DTypeLike) -> NDArray[Any]:
    """The scales [out] of the smallest error of [out, block_size], weighed by `importance`."""
    largest = signed_scales(block, bits)
    best, least = as_stored(largest, dtype), np.full(len(block), np.inf, np.float32)
    for part in PARTS:
        scales = as_stored(largest * part, dtype)
        rounded = _value(round_levels(block, scales[:, None], bits), scales[:, None], bits)
        with np.errstate(over="ignore"):  # an infinite error is no smaller than any
            error = np.square(rounded - block) @ importance
        better = error < least
        best[better], least[better] = scales[better], error[better]
    return best


def _value(levels: NDArray[np.uint8], scales: NDArray[Any], bits: int) -> Float:
    value: Float = (levels.astype(np.float32) - np.float32(2 ** (bits - 1))) * scales
    return value.astype(np.float32, copy=False)
