"""Rounds a weight matrix to few bits. Plain numpy; knows no graph and no model.

A matrix is given as [out, in], the order in which a dot product reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Rows worked on at once: temporaries stay far below the matrix itself.
CHUNK = 2048
SMALLEST_SCALE = np.finfo(np.float32).tiny


class Blocks(NamedTuple):
    """A matrix [out, in] as blocks of one scale each: `(values - 2 ** (bits - 1)) * scale`.

    values: uint8 [out, blocks, block_size * bits / 8], two 4-bit values a byte, the low half first
    scales: float32 with a half float's precision, or float16 [out, blocks]
    """

    values: NDArray[np.uint8]
    scales: NDArray[Any]


class Columns(NamedTuple):
    """A matrix [out, in] with one scale for each output: `values * scale`.

    values: int8 [in, out]
    scales: float32 [out]
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


def quantize_blocks(
    weight: NDArray[np.float32], bits: int, block_size: int, dtype: DTypeLike = np.float32
) -> Blocks:
    """Symmetric rounding of [out, in] in blocks along `in`, the last one filled up with zeros.

    `dtype` is the scales'. The layout is MatMulNBits', whose zero point is 2 ** (bits - 1) where
    none is given:
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftmatmulnbits
    """
    rows, width = weight.shape
    count = -(-width // block_size)
    values = np.empty((rows, count, block_size * bits // 8), np.uint8)
    scales = np.empty((rows, count), dtype)
    for chunk in _chunks(rows):
        blocks = np.zeros((chunk.stop - chunk.start, count * block_size), np.float32)
        blocks[:, :width] = weight[chunk]
        blocks = blocks.reshape(-1, count, block_size)
        scales[chunk] = as_stored(signed_scales(blocks, bits), dtype)
        values[chunk] = pack(round_levels(blocks, scales[chunk, :, None], bits), bits)
    return Blocks(values, scales)


def quantize_columns(weight: NDArray[np.float32]) -> Columns:
    """Symmetric rounding of [out, in] to 8 bits with one scale for each output."""
    rows, width = weight.shape
    values = np.empty((width, rows), np.int8)
    scales = np.empty(rows, np.float32)
    for chunk in _chunks(rows):
        part = weight[chunk]
        # The floor keeps an output of nothing but zeros from being divided by zero.
        scales[chunk] = np.maximum(np.abs(part).max(axis=1) / np.float32(127), SMALLEST_SCALE)
        values[:, chunk] = np.rint(part / scales[chunk, None]).astype(np.int8).T
    return Columns(values, scales)


def signed_scales(blocks: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Scales [rows, blocks] that put each block's largest magnitude on the lowest level, or 0.

    The lowest level, -2 ** (bits - 1), has no positive twin: using it gains a level. The price is
    that a weight as large, but of the other sign, is off by up to a whole step.
    """
    low, high = blocks.min(axis=-1), blocks.max(axis=-1)
    extreme: NDArray[np.float32] = np.where(-low >= high, low, high)
    return extreme / np.float32(-(2 ** (bits - 1)))


def as_stored(scales: NDArray[np.float32], dtype: DTypeLike) -> NDArray[Any]:
    """Scales as Blocks has them: floats with the precision of half ones.

    gpt2onnx-kernels keep them in 16 bits where their sizes allow. The levels are found with these.
    """
    if dtype != np.float32:
        return scales.astype(dtype)
    nearest = (scales.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return nearest.view(np.float32)


def round_levels(blocks: NDArray[np.float32], scales: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Levels [rows, blocks, block_size] from 0 to 2 ** bits - 1; the middle where a scale is 0."""
    half = 2 ** (bits - 1)
    levels: NDArray[np.float32] = np.rint(blocks / np.where(scales == 0, 1, scales)) + half
    return np.clip(levels, 0, 2 * half - 1).astype(np.uint8)


def pack(levels: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Two neighbours of 4 bits in a byte, the first one in the low half."""
    if bits == 8:
        return levels
    return levels[..., 0::2] | levels[..., 1::2] << np.uint8(4)


def _chunks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, CHUNK):
        yield slice(start, min(start + CHUNK, rows))
