"""Rounds a weight matrix to few bits. Plain numpy; knows no graph and no model.

A matrix is given as [out, in], the order in which a dot product reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Rows worked on at once: temporaries stay far below the matrix itself.
CHUNK = 2048


class Blocks(NamedTuple):
    """A matrix [out, in] as blocks of one scale each: `(values - 2 ** (bits - 1)) * scale`.

    values: uint8 [out, blocks, block_size * bits / 8], two 4-bit values a byte, the low half first
    scales: float32 [out, blocks]
    """

    values: NDArray[np.uint8]
    scales: NDArray[np.float32]


class Columns(NamedTuple):
    """A matrix [out, in] with one scale for each output: `values * scale`.

    values: int8 [in, out]
    scales: float32 [out]
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


def quantize_blocks(weight: NDArray[np.float32], bits: int, block_size: int) -> Blocks:
    """Symmetric rounding of [out, in] in blocks along `in`, the last one filled up with zeros.

    The layout is MatMulNBits', whose zero point is 2 ** (bits - 1) where none is given:
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftmatmulnbits
    """
    rows, width = weight.shape
    count = -(-width // block_size)
    values = np.empty((rows, count, block_size * bits // 8), np.uint8)
    scales = np.empty((rows, count), np.float32)
    for chunk in _chunks(rows):
        blocks = np.zeros((chunk.stop - chunk.start, count * block_size), np.float32)
        blocks[:, :width] = weight[chunk]
        blocks = blocks.reshape(-1, count, block_size)
        scales[chunk] = _signed_scale(blocks, bits)
        values[chunk] = _pack(_round(blocks, scales[chunk, :, None], bits), bits)
    return Blocks(values, scales)


def quantize_columns(weight: NDArray[np.float32]) -> Columns:
    """Symmetric rounding of [out, in] to 8 bits with one scale for each output."""
    rows, width = weight.shape
    values = np.empty((width, rows), np.int8)
    scales = np.empty(rows, np.float32)
    for chunk in _chunks(rows):
        part = weight[chunk]
        scale = np.abs(part).max(axis=1) / np.float32(127)
        scales[chunk] = np.where(scale == 0, np.float32(1), scale)
        values[:, chunk] = np.rint(part / scales[chunk, None]).astype(np.int8).T
    return Columns(values, scales)


def _signed_scale(blocks: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Scales [rows, blocks] that put each block's largest magnitude on the lowest level.

    The lowest level, -2 ** (bits - 1), has no positive twin: using it gains a level.
    """
    low, high = blocks.min(axis=-1), blocks.max(axis=-1)
    extreme = np.where(-low >= high, low, high)
    scale = extreme / np.float32(-(2 ** (bits - 1)))
    return np.where(scale == 0, np.float32(1), scale)


def _round(
    blocks: NDArray[np.float32], scales: NDArray[np.float32], bits: int
) -> NDArray[np.uint8]:
    half = 2 ** (bits - 1)
    levels = np.rint(blocks / scales)
    np.clip(levels, -half, half - 1, out=levels)
    return (levels + half).astype(np.uint8)


def _pack(levels: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return levels
    return levels[..., 0::2] | (levels[..., 1::2] << 4)


def _chunks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, CHUNK):
        yield slice(start, min(start + CHUNK, rows))
