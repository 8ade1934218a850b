"""TopLogits against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import Operator
from onnx import TensorProto

OUTPUTS = (TensorProto.INT64, *3 * [TensorProto.FLOAT])
BLOCK = 256


def look(logits: Any, index: Any, temperatures: Any, top: int = 8, kernels: str = "") -> list[Any]:
    inputs = {"logits": logits, "index": np.array(index, np.int64)}
    inputs["temperatures"] = np.array(temperatures, np.float32)
    return Operator("TopLogits", inputs, kernels=kernels, outputs=OUTPUTS, top=top).all()


def rows(vocab: int, count: int = 5) -> Any:
    return 4 * np.random.default_rng(vocab).standard_normal((count, vocab), dtype=np.float32) - 90


def ordered(row: Any, top: int) -> Any:  # the lowest ids first among equals
    return np.lexsort((np.arange(len(row)), -row))[:top]


@pytest.mark.parametrize("kernels", ["", "scalar"])
@pytest.mark.parametrize("vocab", [8, 17, 256, 300, 4096, 50257])
def test_the_largest_and_their_log_probabilities(vocab: int, kernels: str) -> None:
    logits = rows(vocab)
    ids, top, logprobs, _ = look(logits, [3, 0, 3], [1, 1, 1], kernels=kernels)
    for place, row in enumerate(logits[[3, 0, 3]]):
        np.testing.assert_array_equal(ids[place], ordered(row, 8))
        np.testing.assert_array_equal(top[place], row[ids[place]])
        exact = row.astype(np.float64) - np.logaddexp.reduce(row.astype(np.float64))
        np.testing.assert_allclose(logprobs[place], exact[ids[place]], atol=3e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.8, 1.0, 3.0])
def test_sums_of_blocks(temperature: float) -> None:
    logits = rows(1003)
    *_, sums = look(logits, [0, 4], [temperature, 1])
    for place, (row, t) in enumerate([(logits[0], temperature), (logits[4], 1.0)]):
        weights = np.exp((row.astype(np.float64) - row.max()) / t)
        expected = np.add.reduceat(weights, np.arange(0, 1003, BLOCK))
        np.testing.assert_allclose(sums[place], expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("vocab", [300, 5000])
def test_equals_come_by_their_ids(vocab: int) -> None:
    logits = np.round(rows(vocab))  # a dozen different values
    ids = look(logits, [1], [1], top=200)[0]
    np.testing.assert_array_equal(ids[0], ordered(logits[1], 200))
    np.testing.assert_array_equal(look(np.zeros((1, vocab), np.float32), [0], [1])[0][0], range(8))


def test_what_is_ruled_out_comes_last() -> None:
    logits = np.full((1, 600), -np.inf, np.float32)
    logits[0, [599, 3, 300]] = [1, 0, 0]
    ids, top, logprobs, sums = look(logits, [0], [2])
    np.testing.assert_array_equal(ids[0], [599, 3, 300, 0, 1, 2, 4, 5])
    np.testing.assert_array_equal(top[0, 3:], 5 * [-np.inf])
    np.testing.assert_allclose(sums[0], [np.exp(-0.5), np.exp(-0.5), 1], rtol=1e-6)
    assert np.isneginf(logprobs[0, 3:]).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.nan])
@pytest.mark.parametrize("place", [0, 17, 299])
def test_a_row_that_is_not_finite_has_no_order(odd: float, place: int) -> None:
    logits = rows(300)
    logits[2, place] = odd
    _, top, logprobs, sums = look(logits, [2, 1], [0.7, 0.7])
    for found in (top, logprobs, sums):
        assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(top[1], np.sort(logits[1])[:-9:-1])
    assert np.isnan(look(np.full((1, 300), -np.inf, np.float32), [0], [1])[1]).all()


def test_no_row() -> None:
    assert [each.shape for each in look(rows(300), [], [])] == [(0, 8), (0, 8), (0, 8), (0, 2)]


@pytest.mark.parametrize(
    ("index", "temperatures", "top", "message"),
    [
        ([5], [1], 8, "index has 5, expected 0 to 4"),
        ([-1], [1], 8, "index has -1"),
        ([0], [0], 8, "temperatures has 0.0+, expected numbers above 0"),
        ([0], [np.nan], 8, "temperatures has -?nan"),
        ([0], [np.inf], 8, "temperatures has inf"),
        ([0], [1e-40], 8, "temperatures has 0.0+, expected numbers above 0 that have a finite"),
        ([0], [1, 1], 8, r"temperatures has the shape \[2\], expected \[1\]"),
        ([0], [1], 301, r"logits has the shape \[5, 300\], expected \[rows, 301 or more\]"),
        ([0], [1], 0, "top is 0, expected 1 or more"),
    ],
)
def test_what_does_not_fit_is_told(index: Any, temperatures: Any, top: int, message: str) -> None:
    with pytest.raises(Exception, match=message):
        look(rows(300), index, temperatures, top)
