from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpt2onnx.export.quantization import rounding as quantize
from gpt2onnx.export.quantization.rounding import Blocks, quantize_blocks, quantize_columns

BLOCK = 32
# Half of a float16's last place, which scales are rounded to.
HALF_STEP = 2.0**-11


@st.composite
def matrices(draw: st.DrawFn) -> NDArray[np.float32]:
    """Any [out, in], some or all of it zeros of either sign, some with one huge outlier.

    Magnitudes stay away from where half precision runs out.
    """
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 100))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = random.choice([-1, 1], shape) * np.exp(random.uniform(-2, 3, shape))
    zeros = random.random(shape) < draw(st.sampled_from([0, 0.5, 1]))
    weight[zeros] = draw(st.sampled_from([0.0, -0.0]))
    if draw(st.booleans()):
        weight[tuple(random.integers(shape))] = draw(st.sampled_from([-1e4, 1e4]))
    return weight.astype(np.float32)


def levels_of(blocks: Blocks, bits: int) -> NDArray[np.int64]:
    """Levels [out, blocks, block], from -2 ** (bits - 1) up."""
    values = blocks.values.astype(np.int64)
    if bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:-1], -1)
    return values - 2 ** (bits - 1)


def dequantize(blocks: Blocks, bits: int, width: int) -> NDArray[np.float64]:
    """The matrix [out, width] that blocks stand for."""
    values = levels_of(blocks, bits) * blocks.scales[..., None].astype(np.float64)
    return values.reshape(len(values), -1)[:, :width]


@given(matrices(), st.sampled_from([4, 8]), st.sampled_from([np.float32, np.float16]))
def test_blocks_are_within_half_a_step(
    weight: NDArray[np.float32], bits: int, dtype: type[np.floating[Any]]
) -> None:
    blocks = quantize_blocks(weight, bits, BLOCK, dtype)
    rows, width = weight.shape
    count = -(-width // BLOCK)
    assert blocks.values.shape == (rows, count, BLOCK * bits // 8)
    assert (blocks.scales.shape, blocks.scales.dtype) == ((rows, count), dtype)
    steps = np.abs(blocks.scales.astype(np.float64)).repeat(BLOCK, axis=1)[:, :width]
    error = np.abs(dequantize(blocks, bits, width) - weight)
    top = levels_of(blocks, bits).reshape(rows, -1)[:, :width] == 2 ** (bits - 1) - 1
    assert (error <= np.where(top, 1.001, 0.501) * steps).all()


@given(matrices(), st.sampled_from([4, 8]))
def test_the_largest_weight_of_a_block_keeps_its_value(
    weight: NDArray[np.float32], bits: int
) -> None:
    width = weight.shape[1]
    rounded = dequantize(quantize_blocks(weight, bits, BLOCK), bits, width)
    for start in range(0, width, BLOCK):
        block, found = weight[:, start : start + BLOCK], rounded[:, start : start + BLOCK]
        largest = np.abs(block).argmax(axis=1)[:, None]
        np.testing.assert_allclose(
            np.take_along_axis(found, largest, 1),
            np.take_along_axis(block, largest, 1),
            rtol=HALF_STEP,
        )


@pytest.mark.parametrize("bits", [4, 8])
def test_filling_up_a_block_adds_zeros(bits: int) -> None:
    blocks = quantize_blocks(np.full((3, 5), -2.0, np.float32), bits, BLOCK)
    assert (levels_of(blocks, bits)[:, 0, :5] == -(2 ** (bits - 1))).all()
    assert not levels_of(blocks, bits)[:, 0, 5:].any()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_block_of_zeros_stays_zero(bits: int) -> None:
    weight = np.zeros((2, 64), np.float32)
    weight[:, 32:] = -0.0
    blocks = quantize_blocks(weight, bits, BLOCK)
    np.testing.assert_array_equal(dequantize(blocks, bits, 64), 0)
    # MatMulNBits takes the zero point off after multiplying, which cancels exactly for 0 alone.
    np.testing.assert_array_equal(blocks.scales, 0)


def test_an_outlier_costs_its_own_block_alone() -> None:
    weight = np.random.default_rng(0).normal(size=(1, 96)).astype(np.float32)
    outlier = weight.copy()
    outlier[0, 40] = 1e6
    without, with_outlier = (
        dequantize(quantize_blocks(matrix, 4, BLOCK), 4, 96) for matrix in (weight, outlier)
    )
    np.testing.assert_array_equal(with_outlier[:, :32], without[:, :32])
    np.testing.assert_array_equal(with_outlier[:, 64:], without[:, 64:])
    np.testing.assert_allclose(with_outlier[0, 40], 1e6, rtol=HALF_STEP)


@given(st.lists(st.floats(2.0**-14, 65000, width=32), min_size=1), st.sampled_from([1, -1]))
def test_scales_are_the_nearest_halves_where_those_have_full_precision(
    sizes: list[float], sign: int
) -> None:
    exact = np.array(sizes, np.float32) * np.float32(sign)
    stored, halves = quantize.as_stored(exact, np.float32), exact.astype(np.float16)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored.astype(np.float16), stored)
    np.testing.assert_array_equal(np.abs(stored - exact), np.abs(halves - exact))


def test_four_bits_lie_in_pairs_with_the_first_in_the_low_half() -> None:
    weight = np.arange(-8, 8, dtype=np.float32)[None]  # the sixteen levels, with a scale of 1
    blocks = quantize_blocks(weight, 4, 16)
    assert blocks.scales.tolist() == [[1.0]]
    assert blocks.values.tolist() == [[[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE]]]


def test_subnormal_weights_do_no_harm() -> None:
    weight = np.linspace(-1e-44, 1e-43, 64, dtype=np.float32)[None]
    for bits in (4, 8):
        np.testing.assert_allclose(
            dequantize(quantize_blocks(weight, bits, BLOCK), bits, 64), weight, rtol=0, atol=1e-42
        )
    columns = quantize_columns(weight)
    np.testing.assert_allclose(columns.values.T * columns.scales[:, None], weight, atol=1e-42)


@given(matrices())
def test_columns_are_within_half_a_step(weight: NDArray[np.float32]) -> None:
    values, scales = quantize_columns(weight)
    assert (values.shape, scales.shape) == (weight.T.shape, (len(weight),))
    assert values.min(initial=0) >= -127
    error = np.abs(values * scales.astype(np.float64) - weight.T)
    assert (error <= 0.501 * scales).all()
    largest = np.abs(weight).max(axis=1)
    assert (np.abs(values).max(axis=0) == np.where(largest > 0, 127, 0)).all()


def test_working_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).normal(size=(7, 40)).astype(np.float32)
    whole = [*quantize_blocks(weight, 4, BLOCK), *quantize_columns(weight)]
    monkeypatch.setattr(quantize, "CHUNK", 3)
    parts = [*quantize_blocks(weight, 4, BLOCK), *quantize_columns(weight)]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
