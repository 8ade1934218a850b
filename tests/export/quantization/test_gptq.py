from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpt2onnx.export.quantization.gptq import (
    OUTPUT_DAMPING,
    OUTPUTS,
    _outputs,
    quantize_gptq,
)
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


def heeded_error(weight: Float, inputs: Float, gradients: Float, blocks: Blocks) -> float:
    """What the losses change by, squared: of the products, along the gradients."""
    products = inputs @ (dequantize(blocks, 4, weight.shape[1]) - weight).T
    return float(np.square(products @ gradients.T).sum())


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from([32, 96]), st.sampled_from([130, 300]))
def test_losses_are_nearer_where_gradients_are_heeded(seed: int, width: int, out: int) -> None:
    random = np.random.default_rng(seed)
    _, inputs = problem(seed, width)
    weight = random.normal(size=(out, width)).astype(np.float32)
    gradients = random.normal(size=(8, out)).astype(np.float32)
    moments = (inputs.T @ inputs)[None]
    plain = quantize_gptq(weight, moments, 4, BLOCK)
    heeding = quantize_gptq(weight, moments, 4, BLOCK, gradients=gradients)
    assert heeded_error(weight, inputs, gradients, heeding) < 0.7 * heeded_error(
        weight, inputs, gradients, plain
    )
    assert error(weight, inputs, heeding, 4) < 2 * error(weight, inputs, plain, 4)


def test_an_answer_is_the_least_that_is_left() -> None:
    """Of a quadratic form, by numpy's least squares: outputs rounded later, taken as unrounded."""
    random = np.random.default_rng(0)
    gradients = random.normal(size=(7, 2 * OUTPUTS)).astype(np.float32)
    first, later = _outputs(gradients, 2 * OUTPUTS)
    errors = random.normal(size=OUTPUTS).astype(np.float32)
    losses = first.gradients @ errors
    damped = np.concatenate([later.gradients, np.sqrt(OUTPUT_DAMPING) * np.eye(OUTPUTS)])
    wanted = np.concatenate([-losses, np.zeros(OUTPUTS)])
    expected = np.linalg.lstsq(damped, wanted, rcond=None)[0]
    # A weight rounded as if it were larger by so much is off by that much less.
    np.testing.assert_allclose(-(later.answers @ losses), expected, rtol=1e-3, atol=1e-5)


def test_gradients_of_nothing_change_nothing() -> None:
    weight, inputs = problem(0, 64)
    moments = (inputs.T @ inputs)[None]
    none = np.zeros((3, len(weight)), np.float32)
    for found, expected in zip(
        quantize_gptq(weight, moments, 4, BLOCK, gradients=none),
        quantize_gptq(weight, moments, 4, BLOCK),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


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
