from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpt2onnx.export.quantization.gptq import quantize_gptq
from gpt2onnx.export.quantization.rounding import Blocks, quantize_blocks
from tests.export.quantization.test_rounding import BLOCK, dequantize

Float = NDArray[np.float32]


def problem(seed: int, width: int) -> tuple[Float, Float]:
    """A weight [24, width], and inputs [400, width] that go together as activations do."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(width, width)) / width**0.5 + np.eye(width)
    inputs = random.normal(size=(400, width)) @ mixing
    return random.normal(size=(24, width)).astype(np.float32), inputs.astype(np.float32)


def error(weight: Float, inputs: Float, blocks: Blocks, bits: int) -> float:
    """Of the products with the inputs, squared."""
    return float(np.square(inputs @ (dequantize(blocks, bits, weight.shape[1]) - weight).T).sum())


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from([32, 96]), st.sampled_from([4, 8]))
def test_products_are_nearer_than_by_plain_rounding(seed: int, width: int, bits: int) -> None:
    weight, inputs = problem(seed, width)
    fed_back = quantize_gptq(weight, (inputs.T @ inputs)[None], bits, BLOCK)
    plain = quantize_blocks(weight, bits, BLOCK)
    assert error(weight, inputs, fed_back, bits) < 0.9 * error(weight, inputs, plain, bits)
    assert [part.shape for part in fed_back] == [part.shape for part in plain]


def test_groups_are_rounded_by_themselves() -> None:
    weight, inputs = problem(0, 128)
    moments = np.stack([half.T @ half for half in np.split(inputs, 2, axis=1)])
    whole = quantize_gptq(weight, moments, 4, BLOCK)
    halves = [
        quantize_gptq(np.ascontiguousarray(part), moment[None], 4, BLOCK)
        for part, moment in zip(np.split(weight, 2, axis=1), moments, strict=True)
    ]
    for found, expected in zip(whole, zip(*halves, strict=True), strict=True):
        np.testing.assert_array_equal(found, np.concatenate(expected, axis=1))


def test_a_width_between_blocks_is_filled_up_with_zeros() -> None:
    weight, inputs = problem(0, 50)
    moments = np.zeros((1, 64, 64), np.float32)
    moments[0, :50, :50] = inputs.T @ inputs
    blocks = quantize_gptq(weight, moments, 4, BLOCK)
    assert blocks.scales.shape == (24, 2)
    np.testing.assert_array_equal(dequantize(blocks, 4, 64)[:, 50:], 0)


@pytest.mark.parametrize("moments", [np.zeros((1, 32, 32)), np.diag(np.arange(32.0))[None]])
def test_inputs_that_are_never_seen(moments: NDArray[np.float64]) -> None:
    weight, _ = problem(0, 32)
    weight[0] = 0
    found = dequantize(quantize_gptq(weight, moments.astype(np.float32), 4, BLOCK), 4, 32)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], 0)
