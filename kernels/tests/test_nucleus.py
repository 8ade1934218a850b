"""TopLogits' border of the nucleus, and what stays of each block, against sorting in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import Operator
from onnx import TensorProto

BLOCK = 256
OUTPUTS = (TensorProto.INT64, *4 * [TensorProto.FLOAT])


def look(
    logits: Any, temperature: float, outside: Any, top: int = 64, kernels: str = ""
) -> tuple[Any, Any]:
    """Sums [rows, blocks] and borders [rows] of every row."""
    inputs = {
        "logits": logits,
        "index": np.arange(len(logits)),
        "temperatures": np.full(len(logits), temperature, np.float32),
        "outside": np.full(len(logits), outside, np.float32),
    }
    found = Operator("TopLogits", inputs, kernels=kernels, outputs=OUTPUTS, top=top).all()
    return found[3], found[4]


def rows(vocab: int, deviation: float) -> Any:
    drawn = np.random.default_rng(vocab).standard_normal((24, vocab), dtype=np.float32)
    return deviation * drawn - 3


def weights_of(row: Any, temperature: float) -> Any:
    heated = row / np.float32(temperature)
    return np.exp((heated - heated.max()).astype(np.float64))


def expected(row: Any, temperature: float, outside: float) -> Any:
    """The smallest logit that stays."""
    rising = np.sort(row)
    out = weights_of(rising, temperature).cumsum()
    return rising[out.searchsorted(np.float32(outside) * out[-1], "right")]


@pytest.mark.parametrize("kernels", ["", "scalar"])
@pytest.mark.parametrize("vocab", [64, 300, 5000, 50257])
@pytest.mark.parametrize("deviation", [0.5, 3.0])
@pytest.mark.parametrize(("temperature", "outside"), [(0.7, 0.05), (1.0, 0.5), (1.3, 0.001)])
def test_the_smallest_that_stays(
    vocab: int, deviation: float, temperature: float, outside: float, kernels: str
) -> None:
    logits = rows(vocab, deviation)
    sums, borders = look(logits, temperature, outside, kernels=kernels)
    for row, found, border in zip(logits, sums, borders, strict=True):
        weights = weights_of(row, temperature)
        if not np.isnan(border):
            assert border == expected(row, temperature, outside)
            weights[row < border] = 0
        blocks = np.add.reduceat(weights, np.arange(0, vocab, BLOCK))
        np.testing.assert_allclose(found, blocks, rtol=1e-5, atol=1e-9)
    assert np.isnan(borders).mean() <= 0.25


def test_a_peaked_row_has_its_best_alone() -> None:
    logits = np.linspace(-60, 0, 5000, dtype=np.float32)[None]
    logits[0, 4321] = 9
    sums, borders = look(logits, 0.5, 0.05)
    assert borders[0] == 9
    np.testing.assert_array_equal(sums[0], np.arange(20) == 4321 // BLOCK)


def test_equals_that_all_stay() -> None:
    logits = np.log(np.array([[1, 2, 1, 0.1]])).astype(np.float32)
    sums, borders = look(logits, 1.0, 0.2, top=3)
    assert borders[0] == 0
    assert sums[0, 0] == 2  # 1 + 0.5 + 0.5


@pytest.mark.parametrize(
    "row",
    [
        np.zeros(5000),  # nothing but equals
        np.log([0.5, 0.3, 0.2]),  # what stays outside may be the last, or nothing
        np.round(rows(5000, 1.0)[0]),  # equals at the border
    ],
    ids=["all equal", "just as much", "some equal"],
)
def test_what_is_not_certain_is_not_told(row: Any) -> None:
    sums, borders = look(row.astype(np.float32)[None], 1.0, 0.2, top=2)
    assert np.isnan(borders[0])
    weights = weights_of(row.astype(np.float32), 1.0)
    whole = np.add.reduceat(weights, np.arange(0, len(row), BLOCK))
    np.testing.assert_allclose(sums[0], whole, rtol=1e-5)


def test_logits_that_a_temperature_makes_equal_are_not_told_apart() -> None:
    neighbours = (np.float32(1.75) + np.arange(64, dtype=np.float32) * np.float32(2**-23))[:, None]
    pairs = np.concatenate([neighbours[:-1], neighbours[1:]], axis=1)
    equal = pairs[:, 0] / np.float32(3) == pairs[:, 1] / np.float32(3)
    logits = np.concatenate([pairs, np.full((63, 1), 2.0, np.float32)], axis=1)
    assert equal.any()
    np.testing.assert_array_equal(np.isnan(look(logits, 3.0, 0.4, top=2)[1]), equal)


def test_where_nothing_stays_outside_there_is_no_border() -> None:
    logits = rows(300, 1.0)
    assert np.isnan(look(logits, 0.7, 0.0)[1]).all()
    logits[2, 7] = np.nan
    assert np.isnan(look(logits, 0.7, 0.1)[1][2])


@pytest.mark.parametrize("outside", [-0.1, 1.0, np.nan])
def test_a_share_is_from_nothing_to_below_all(outside: float) -> None:
    with pytest.raises(Exception, match=r"outside has .*, expected numbers from 0 to below 1"):
        look(rows(300, 1.0), 1.0, outside)


def test_a_share_of_which_nobody_hears_is_refused() -> None:
    logits = rows(300, 1.0)
    inputs = {
        "logits": logits,
        "index": np.arange(2),
        "temperatures": np.ones(2, np.float32),
        "outside": np.zeros(2, np.float32),
    }
    with pytest.raises(Exception, match="no output for the borders"):
        Operator("TopLogits", inputs, outputs=OUTPUTS[:4], top=8).all()
    inputs["outside"] = np.zeros(3, np.float32)
    with pytest.raises(Exception, match=r"outside has the shape \[3\], expected \[2\]"):
        Operator("TopLogits", inputs, outputs=OUTPUTS, top=8).all()
