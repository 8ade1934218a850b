from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.quantization import blocks
from gpt2onnx.export.quantization.blocks import BLOCK_SIZE, cast
from gpt2onnx.export.quantization.dynamic import LOW, multiply_finely, multiply_hidden
from gpt2onnx.export.quantization.precision import (
    Blockwise,
    Dynamic,
    Floating,
    Precision,
)
from gpt2onnx.export.quantization.rounding import quantize_blocks, quantize_columns
from gpt2onnx.export.quantization.table import PRECISIONS, choose
from gpt2onnx.export.writing.onnx_builder import GraphBuilder
from gpt2onnx.runtime.machine.processor import processor
from tests.export.quantization.test_rounding import dequantize
from tests.export.small_graph import run
from tests.raising import raises

SINGLE, HALF = np.dtype(np.float32), np.dtype(np.float16)
# Widths below, at, above and far from multiples of a block; one column; an odd vocabulary.
SHAPES = [(32, 64), (20, 7), (50, 33), (36, 1), (1, 5), (257, 96)]

Float = NDArray[np.float32]


def layer(width: int, out: int) -> tuple[Float, Float, Float]:
    """x [5, width], weight [width, out] and bias [out]."""
    random = np.random.default_rng(width)
    sizes = ((5, width), (width, out), (out,))
    x, weight, bias = (random.normal(size=size).astype(np.float32) for size in sizes)
    return x, weight, bias


def linear(folder: Path, recipe: Precision, x: Float, weight: Float, bias: Float) -> NDArray[Any]:
    (result,) = run(
        folder, lambda op: [recipe.linear(op, "layer", "x", weight, bias)], x=x.astype(recipe.dtype)
    )
    assert result.dtype == recipe.dtype
    return result


def table(
    folder: Path, recipe: Precision, weight: Float, ids: NDArray[np.int64], x: Float
) -> list[NDArray[Any]]:
    """Rows of the table, and its product with x."""

    def build(op: GraphBuilder) -> list[str]:
        stored = recipe.table(op, "wte", weight)
        return [stored.gather("ids"), stored.project("x")]

    return run(folder, build, ids=ids, x=x.astype(recipe.dtype))


def largest_rounding(x: Float, weight: Float) -> NDArray[np.float64]:
    """How far x [n, in] @ weight [in, out] moves at most by rounding x's blocks to 8 bits."""
    bound = np.zeros((len(x), weight.shape[1]))
    for start in range(0, x.shape[1], BLOCK_SIZE):
        block = slice(start, start + BLOCK_SIZE)
        half_step = np.abs(x[:, block]).max(axis=1) / 127 / 2
        bound += np.outer(half_step, np.abs(weight[block]).sum(axis=0))
    return bound


@pytest.mark.parametrize(("width", "out"), SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(SINGLE, 1e-5), (HALF, 2e-2)])
def test_floating_layers(
    tmp_path: Path, width: int, out: int, dtype: np.dtype[Any], tolerance: float
) -> None:
    x, weight, bias = layer(width, out)
    found = linear(tmp_path, Floating(dtype), x, weight, bias)
    np.testing.assert_allclose(found, x @ weight + bias, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize(("width", "out"), SHAPES)
@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_are_packed_as_the_operator_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, out: int, bits: int
) -> None:
    monkeypatch.setattr(blocks, "ACCURACY_LEVEL", 0)  # activations as they are
    x, weight, bias = layer(width, out)
    rounded = dequantize(quantize_blocks(weight.T, bits, BLOCK_SIZE), bits, width).T
    found = linear(tmp_path, Blockwise(bits, SINGLE), x, weight, bias)
    np.testing.assert_allclose(found, x @ rounded + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("width", "out"), SHAPES)
@pytest.mark.parametrize("bits", [4, 8])
def test_block_layers_round_activations_to_8_bits_and_no_further(
    tmp_path: Path, width: int, out: int, bits: int
) -> None:
    x, weight, bias = layer(width, out)
    rounded = dequantize(quantize_blocks(weight.T, bits, BLOCK_SIZE), bits, width).T
    found = linear(tmp_path, Blockwise(bits, SINGLE), x, weight, bias)
    error = np.abs(found - (x @ rounded + bias))
    assert (error <= 1.01 * largest_rounding(x, rounded) + 1e-4).all()


FINE = [Blockwise(8, SINGLE, fine=True), Dynamic(SINGLE, multiply_finely)]


@pytest.mark.parametrize(("width", "out"), SHAPES)
@pytest.mark.parametrize("recipe", FINE, ids=["blocks", "dynamic"])
def test_fine_layers_round_activations_to_16_bits(
    tmp_path: Path, recipe: Precision, width: int, out: int
) -> None:
    x, weight, bias = layer(width, out)
    if isinstance(recipe, Blockwise):
        rounded = dequantize(quantize_blocks(weight.T, 8, BLOCK_SIZE), 8, width).T
    else:
        values, scales = quantize_columns(weight.T)
        rounded = values * scales
    steps = np.abs(x).max(axis=1) / 127 / 254
    bound = np.outer(steps, np.abs(rounded).sum(axis=0))
    found = linear(tmp_path, recipe, x, weight, bias)
    assert (np.abs(found - (x @ rounded + bias)) <= bound + 1e-4).all()


@pytest.mark.parametrize("recipe", FINE, ids=["blocks", "dynamic"])
def test_a_token_of_a_fine_layer_stands_alone(tmp_path: Path, recipe: Precision) -> None:
    x, weight, bias = layer(64, 48)
    alone = linear(tmp_path, recipe, x[:1], weight, bias)
    x[1:] *= 1e4
    x[-1] = 0
    together = linear(tmp_path, recipe, x, weight, bias)
    np.testing.assert_array_equal(alone[0], together[0])
    np.testing.assert_array_equal(together[-1], bias)


@pytest.mark.parametrize(("width", "out"), SHAPES)
def test_dynamic_layers_are_numpys_integer_product(tmp_path: Path, width: int, out: int) -> None:
    x, weight, bias = layer(width, out)
    values, column_scales = quantize_columns(weight.T)
    token_scales = np.abs(x).max(axis=1, keepdims=True) * np.float32(1 / 127)
    rounded = np.rint(x / token_scales).astype(np.int64)
    product = (rounded @ values.astype(np.int64)) * (token_scales * column_scales)
    found = linear(tmp_path, Dynamic(SINGLE), x, weight, bias)
    np.testing.assert_allclose(found, product + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [7, 16, 36, 64])
def test_the_largest_hidden_units_have_a_scale_of_their_own(tmp_path: Path, width: int) -> None:
    x, weight, bias = layer(width, 48)
    x = np.maximum(x, np.float32(-0.17))  # as GELU does
    x[:, : width // 16] *= 50
    expected = bias.astype(np.float64)
    for part in (slice(width // 16), slice(width // 16, None)):
        if x[:, part].size:
            values, column_scales = quantize_columns(weight[part].T)
            reach = np.maximum(x[:, part] / (255 - LOW), -x[:, part] / LOW).max(axis=1)[:, None]
            rounded = np.rint(x[:, part] / reach).astype(np.int64)
            expected = expected + (rounded @ values.astype(np.int64)) * (reach * column_scales)
    found = linear(tmp_path, Dynamic(SINGLE, multiply_hidden), x, weight, bias)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["int8", "int8-dynamic", "int4"])
def test_a_token_does_not_depend_on_its_neighbours(tmp_path: Path, name: str) -> None:
    """But for how ONNX Runtime adds up a 4-bit product of one row before VNNI."""
    x, weight, bias = layer(64, 48)
    recipe = choose(name, "cpu")
    alone = linear(tmp_path, recipe, x[:1], weight, bias)
    x[1:] *= 1e4  # outliers, which a scale for all tokens would spread over them
    together = linear(tmp_path, recipe, x, weight, bias)
    exact = not (name == "int4" and processor().saturates_int8)
    np.testing.assert_allclose(alone[0], together[0], rtol=0, atol=0 if exact else 1e-4)


@pytest.mark.parametrize("name", PRECISIONS)
def test_zeros_in_give_the_bias(tmp_path: Path, name: str) -> None:
    x, weight, bias = layer(40, 6)
    recipe = choose(name, "cpu")
    for inputs, weights in ((np.zeros_like(x), weight), (x, np.zeros_like(weight))):
        found = linear(tmp_path, recipe, inputs, weights, bias)
        np.testing.assert_array_equal(found, [bias.astype(recipe.dtype)] * len(x))


@pytest.mark.parametrize("width", [20, 32, 36, 50, 64])
@pytest.mark.parametrize("name", ["int8", "int8-dynamic"])
def test_a_table_of_blocks_serves_both_its_uses(tmp_path: Path, name: str, width: int) -> None:
    x, weight, _ = layer(width, 257)
    rounded = dequantize(quantize_blocks(weight.T, 8, BLOCK_SIZE), 8, width)
    ids = np.array([0, 256, 3, 3], np.int64)
    gathered, projected = table(tmp_path, choose(name, "cpu"), weight.T, ids, x)
    np.testing.assert_allclose(gathered, rounded[ids], rtol=1e-6)
    error = np.abs(projected - x @ rounded.T)
    assert (error <= 1.01 * largest_rounding(x, rounded.T) + 1e-4).all()
    values, scales = quantize_blocks(weight.T, 8, BLOCK_SIZE)
    stored = (tmp_path / "graph.onnx.data").stat().st_size
    assert stored == -(-values.nbytes // 4096) * 4096 + scales.nbytes // 2


@pytest.mark.parametrize("width", [20, 32, 36, 50, 64])
def test_a_table_of_4_bits_has_8_for_its_first_rows(tmp_path: Path, width: int) -> None:
    x, weight, _ = layer(width, 257)
    first, rest = weight.T[:128], weight.T[128:]
    rounded = np.concatenate(
        [
            dequantize(quantize_blocks(part, bits, BLOCK_SIZE), bits, width)
            for part, bits in ((first, 8), (rest, 4))
        ]
    )
    ids = np.array([0, 127, 128, 256, 256], np.int64)
    gathered, projected = table(tmp_path, choose("int4", "cpu"), weight.T, ids, x)
    np.testing.assert_allclose(gathered, rounded[ids], rtol=1e-6)
    error = np.abs(projected - x @ rounded.T)
    assert (error <= 1.01 * largest_rounding(x, rounded.T) + 1e-4).all()


def test_scales_beyond_half_precision_are_stored_in_single(tmp_path: Path) -> None:
    x, weight, bias = layer(64, 33)
    weight *= np.float32(1e9)
    rounded = dequantize(quantize_blocks(weight.T, 8, BLOCK_SIZE), 8, 64).T
    found = linear(tmp_path, Blockwise(8, SINGLE), x, weight, bias)
    error = np.abs(found - (x @ rounded + bias))
    assert (error <= 1.01 * largest_rounding(x, rounded) + 1e-4).all()


@pytest.mark.parametrize(("name", "tolerance"), [("fp32", 1e-5), ("fp16", 2e-2)])
def test_a_floating_table_serves_both_its_uses(tmp_path: Path, name: str, tolerance: float) -> None:
    x, weight, _ = layer(36, 17)
    recipe, ids = choose(name, "cpu"), np.array([16, 0], np.int64)
    gathered, projected = table(tmp_path, recipe, weight.T, ids, x)
    np.testing.assert_array_equal(gathered, weight.T[ids].astype(recipe.dtype))
    np.testing.assert_allclose(projected, x @ weight, rtol=tolerance, atol=6 * tolerance)
    assert (tmp_path / "graph.onnx.data").stat().st_size == weight.size * recipe.dtype.itemsize


@pytest.mark.parametrize("bits", [4, 8])
def test_half_precision_scales_are_those_that_the_weights_were_rounded_with(
    tmp_path: Path, bits: int
) -> None:
    x, weight, bias = layer(64, 33)
    blocks = quantize_blocks(weight.T, bits, BLOCK_SIZE, HALF)
    rounded = dequantize(blocks, bits, 64).T
    found = linear(tmp_path, Blockwise(bits, HALF), x, weight, bias)
    error = np.abs(found - (x @ rounded + bias))
    assert (error <= 1.01 * largest_rounding(x, rounded) + 0.05).all()


@pytest.mark.parametrize(
    ("name", "device"), [("fp16", "cpu"), ("fp16", "cuda"), ("int8", "cuda"), ("int4", "cuda")]
)
@pytest.mark.parametrize("outlier", [7e4, -7e4])
def test_weights_beyond_half_precision_are_refused(
    tmp_path: Path, name: str, device: str, outlier: float
) -> None:
    x, weight, bias = layer(32, 8)
    weight[3, 4] = outlier
    with pytest.raises(WeightsError, match=r"layer: .* float16's range, \+-65504, found 70000; .*"):
        linear(tmp_path, choose(name, device), x, weight, bias)
    with raises(WeightsError, name="wte"):
        table(tmp_path, choose(name, device), weight, np.array([0]), x)


@pytest.mark.parametrize("name", ["int8", "int8-dynamic", "int4", "fp32"])
def test_single_precision_takes_weights_of_any_size(tmp_path: Path, name: str) -> None:
    x, weight, bias = layer(32, 8)
    weight[3, 4] = 7e4
    assert np.isfinite(linear(tmp_path, choose(name, "cpu"), x, weight, bias)).all()


def test_cast_copies_only_where_it_must() -> None:
    value = np.array([1, -65504], np.float32)
    assert cast(value, SINGLE, "name") is value
    assert cast(value, HALF, "name").dtype == HALF
