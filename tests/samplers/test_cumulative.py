"""Where a running sum comes to a share: against numpy's own cumsum, in exact arithmetic."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2onnx.samplers.cumulative import reaching, reaching_each, total, total_of_each

Side = Literal["left", "right"]


@pytest.mark.parametrize(
    ("share", "left", "right"),
    [
        (0.0, 0, 1),
        (0.125, 1, 1),
        (0.25, 1, 2),
        (0.26, 2, 2),
        (0.5, 2, 4),
        (0.75, 4, 4),
        (0.99, 4, 4),
    ],
)
def test_by_hand(share: float, left: int, right: int) -> None:
    """Weights 0 2 2 0 4 0: the running sums are 0, 1/4, 1/2, 1/2, 1, 1 of the total."""
    weights = np.array([0, 2, 2, 0, 4, 0], np.float32)
    assert reaching(weights, share, "left") == left
    assert reaching(weights, share, "right") == right


@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([1, 2, 255, 256, 257, 512, 3000]),
    share=st.integers(0, 1023).map(lambda n: n / 1024),
    side=st.sampled_from(["left", "right"]),
)
@settings(max_examples=200, deadline=None)
def test_is_what_searching_the_whole_running_sum_finds(
    seed: int, size: int, share: float, side: Side
) -> None:
    # Small whole numbers, whose sums float64 holds exactly.
    weights = np.random.default_rng(seed).integers(0, 8, size).astype(np.float32)
    weights[seed % size] += 1
    sums = np.cumsum(weights, dtype=np.float64)
    assert reaching(weights, share, side) == np.searchsorted(sums, share * sums[-1], side)


@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-30, 1.0, 1e30]))
@settings(max_examples=100, deadline=None)
def test_never_ends_on_a_weight_of_zero(seed: int, scale: float) -> None:
    """Also where a block sums to a rounding more than its running sum."""
    rng = np.random.default_rng(seed)
    weights = (scale * rng.random(2000) * (rng.random(2000) < 0.3)).astype(np.float32)
    sums = np.cumsum(weights, dtype=np.float64)
    for index in rng.integers(0, 2000, 20):
        share = min(sums[index] / sums[-1], 1 - 2**-53)
        assert weights[reaching(weights, share, "right")] > 0


@given(seed=st.integers(0, 10_000), size=st.integers(1, 256))
@settings(max_examples=100, deadline=None)
def test_zeros_in_between_change_no_bit_of_a_total(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(0, 1, 256) * 10.0 ** rng.integers(-9, 9, 256)).astype(np.float32)
    is_zero = rng.permutation(256) >= size
    spread = np.where(is_zero, np.float32(0), values)
    expected = np.float32(sum(values[~is_zero].astype(np.float64).tolist()))
    assert total(spread) == total(values[~is_zero]) == expected
    assert total_of_each(np.array([spread, values])).tolist() == [[expected], [total(values)]]


@given(seed=st.integers(0, 10_000), share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=100, deadline=None)
def test_each_row_reaches_a_share_where_it_does_alone(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    weights = (rng.random((5, 40)) * (rng.random((5, 40)) < 0.5)).astype(np.float32)
    weights[:, seed % 40] += 0.25
    sides: tuple[Side, Side] = ("left", "right")
    for side in sides:
        alone = [[reaching(row, share, side)] for row in weights]
        assert reaching_each(weights, share, side).tolist() == alone
