"""The nucleus that is found without a sort, against one that sorts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2onnx.samplers import Candidates, warpers
from gpt2onnx.samplers.cumulative import block_sums
from gpt2onnx.samplers.nucleus import LEAST, nucleus

ROWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "flat": lambda rng, size: 0.7 * rng.normal(size=size),
    "broad": lambda rng, size: 3 * rng.normal(size=size) - 90,
    "peaked": lambda rng, size: np.where(rng.random(size) < 5e-3, 9, 0) + rng.normal(size=size),
    "by rank": lambda rng, size: -1.1 * np.log1p(np.arange(size)) + 0.1 * rng.normal(size=size),
    "grid": lambda rng, size: np.round(8 * rng.normal(size=size)) / 8,
    "half precision": lambda rng, size: (2 * rng.normal(size=size)).astype(np.float16),
    "with forbidden ones": lambda rng, size: np.where(
        rng.random(size) < 0.2, -np.inf, rng.normal(size=size)
    ),
}


def sorted_nucleus(logits: np.ndarray, p: float) -> np.ndarray:  # [n] -> [kept]
    """The ids of the most probable, of equals the lowest first, until they reach p."""
    ids = np.argsort(-logits, kind="stable")
    sums = np.exp(logits[ids] - logits.max()).astype(np.float64).cumsum()
    return np.sort(ids[: np.count_nonzero(sums < p * sums[-1]) + 1])


@given(
    kind=st.sampled_from(sorted(ROWS)),
    size=st.sampled_from([LEAST, 5000, 20_011]),
    p=st.sampled_from([1e-3, 0.1, 0.5, 0.9, 0.95, 0.999, 1 - 1e-6]) | st.floats(0.01, 0.99),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=150, deadline=None)
def test_is_that_of_a_sort(kind: str, size: int, p: float, seed: int) -> None:
    logits = ROWS[kind](np.random.default_rng(seed), size).astype(np.float32)
    candidates = Candidates(np.arange(size), logits)
    expected = sorted_nucleus(logits, p)
    np.testing.assert_array_equal(warpers.top_p(candidates, p=p).ids, expected)
    if found := nucleus(candidates, p):
        kept = found.keeps(logits)
        np.testing.assert_array_equal(np.flatnonzero(kept), expected)
        parts = [found.keeps(logits[first : first + 256], first) for first in range(0, size, 256)]
        np.testing.assert_array_equal(np.concatenate(parts), kept)
        sums = block_sums(candidates.weights * kept)
        np.testing.assert_allclose(found.sums, sums, rtol=1e-9)
        np.testing.assert_array_equal(found.sums == 0, sums == 0)


@pytest.mark.parametrize("kind", sorted(ROWS))
@pytest.mark.parametrize("p", [0.3, 0.9, 0.999])
def test_few_rows_need_a_sort(kind: str, p: float) -> None:
    found = 0
    for seed in range(20):
        logits = ROWS[kind](np.random.default_rng(seed), 20_011).astype(np.float32)
        found += nucleus(Candidates(np.arange(20_011), logits), p) is not None
    assert found >= 18


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5])
def test_a_sum_that_comes_to_p_exactly_is_left_to_the_sort(p: float) -> None:
    candidates = Candidates(np.arange(LEAST), np.zeros(LEAST, np.float32))
    assert nucleus(candidates, p) is None
    kept = warpers.top_p(candidates, p=p).ids
    np.testing.assert_array_equal(kept, np.arange(max(p * LEAST, 1)))


def test_of_equals_at_the_border_the_first_ones_stay() -> None:
    logits = np.zeros(LEAST, np.float32)
    found = nucleus(Candidates(np.arange(LEAST), logits), 0.3)
    assert found
    np.testing.assert_array_equal(np.flatnonzero(found.keeps(logits)), np.arange(1229))


def test_few_candidates_are_sorted() -> None:
    assert nucleus(Candidates.of(np.arange(LEAST - 1, dtype=np.float32)), 0.5) is None
