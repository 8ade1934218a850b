"""Block quantization in which what is rounded later makes up for the errors of what came before.

Of inputs by GPTQ (Frantar 2022, https://arxiv.org/abs/2210.17323), which wants the products near to
what they were; of outputs, too, where gradients tell which changes of products the model heeds: the
two together are YAQA's rounding (Tseng 2025, https://arxiv.org/abs/2505.22988). Plain numpy; knows
no graph and no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

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
DAMPING, OUTPUT_DAMPING = 0.01, 1.0
# Outputs that are rounded at once, none of which makes up for another.
OUTPUTS = 64
# The scale is searched among these parts of what fits the block's largest weight, either sign.
PARTS = tuple(np.float32(sign * part / 20) for part in range(20, 14, -1) for sign in (1, -1))


def quantize_gptq(
    weight: Float,
    moments: Float,
    bits: int,
    block_size: int,
    dtype: DTypeLike = np.float32,
    gradients: Float | None = None,
    damping: float = DAMPING,
) -> Blocks:
    """As quantize_blocks, of [out, in], for inputs of which x.T @ x is known.

    moments: [groups, GROUP, GROUP] or one smaller group, zeros where `in` ends before.
    gradients: of the outputs [n, out], or None: all outputs matter alike.
    damping: added to the moments' diagonal, of its mean.
    """
    size = moments.shape[1]
    padded = np.zeros((len(weight), len(moments) * size), np.float32)
    padded[:, : weight.shape[1]] = weight
    outputs = list(_outputs(gradients, len(weight)))
    parts = [
        _round_group(part, group, damping, outputs, bits, block_size, dtype)
        for part, group in zip(np.split(padded, len(moments), axis=1), moments, strict=True)
    ]
    levels, scales = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    count = -(-weight.shape[1] // block_size)
    return Blocks(pack(levels[:, :count], bits), scales[:, :count])


class _Outputs(NamedTuple):
    """Outputs that are rounded at once.

    where: their places.
    gradients: [n, outputs]
    answers: [outputs, n], how far to go to make up for errors that change the n losses so much.
    """

    where: slice
    gradients: Float
    answers: Float


def _outputs(gradients: Float | None, out: int) -> Iterator[_Outputs]:
    """Parts of `out` outputs, in the order in which they are rounded.

    Neighbours, which often matter together, are in different ones. A part's answer is the best that
    it and the later parts, taken as unrounded, could give.
    """
    if gradients is None or not gradients.any():
        none = np.zeros((0, out), np.float32)
        yield _Outputs(slice(None), none, none.T)
        return
    unit = gradients / np.sqrt(np.square(gradients).sum(dtype=np.float64) / out)
    count = -(-out // OUTPUTS)
    wheres = [slice(part, None, count) for part in range(count)]
    later = OUTPUT_DAMPING * np.eye(len(unit))
    answers = []
    for where in reversed(wheres):
        later += unit[:, where] @ unit[:, where].T
        answers.append(np.linalg.solve(later, unit[:, where]).T.astype(np.float32))
    for where, answer in zip(wheres, reversed(answers), strict=True):
        yield _Outputs(where, np.ascontiguousarray(unit[:, where], np.float32), answer)


def _round_group(
    weight: Float,
    moments: Float,
    damping: float,
    outputs: list[_Outputs],
    bits: int,
    block_size: int,
    dtype: DTypeLike,
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Levels [out, blocks, block_size] and scales [out, blocks] of [out, in]; overwrites it."""
    factor = _inverse_factor(moments, damping)
    importance = np.diagonal(moments)
    levels, scales = [], []
    for start in range(0, weight.shape[1], block_size):
        end = start + block_size
        block = weight[:, start:end]
        scale = _best_scales(block, importance[start:end], bits, dtype)
        found, errors = _round_block(block, scale, outputs, factor[start:end, start:end], bits)
        weight[:, end:] -= errors @ factor[start:end, end:]
        levels.append(found)
        scales.append(scale)
    return np.stack(levels, axis=1), np.stack(scales, axis=1)


def _round_block(
    block: Float, scales: NDArray[Any], outputs: list[_Outputs], factor: Float, bits: int
) -> tuple[NDArray[np.uint8], Float]:
    """Levels [out, block_size], and errors to pass on, over the factor's diagonal."""
    levels, errors = np.empty(block.shape, np.uint8), np.empty_like(block)
    losses = np.zeros((len(outputs[0].gradients), block.shape[1]), np.float32)
    for where, gradients, answers in outputs:
        levels[where], errors[where] = _round_columns(
            block[where], answers @ losses, scales[where], factor, bits
        )
        losses += gradients @ (errors[where] * np.diagonal(factor))
    return levels, errors


def _round_columns(
    block: Float, shifts: Float, scales: NDArray[Any], factor: Float, bits: int
) -> tuple[NDArray[np.uint8], Float]:
    """The same of some outputs, each weight rounded as if it were larger by its shift."""
    block = block.T.copy()  # a column at a time
    levels, errors = np.empty(block.shape, np.uint8), np.empty_like(block)
    for column, (given, shift) in enumerate(zip(block, shifts.T, strict=True)):
        levels[column] = round_levels(given + shift, scales, bits)
        error = given - _value(levels[column], scales, bits)
        errors[column] = error / factor[column, column]
        block[column + 1 :] -= np.outer(factor[column, column + 1 :], errors[column])
    return levels.T, errors.T


def _inverse_factor(moments: Float, damping: float) -> Float:
    """The upper Cholesky factor of the inverse of x.T @ x, [in, in]."""
    damped = moments.astype(np.float64)
    mean = np.trace(damped) / len(damped)
    damped[np.diag_indices_from(damped)] += damping * mean if mean > 0 else 1
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
