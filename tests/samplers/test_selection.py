"""The largest of many scores, and several drawn without replacement."""

from __future__ import annotations

from itertools import permutations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2onnx.samplers.selection import drawn, largest

# Few values, so that many are equal, and impossible ones.
scores = hnp.arrays(
    np.float32, st.integers(1, 700), elements=st.sampled_from([-np.inf, -2.0, -1.0, 0.0, 0.5])
)


@given(scores, st.integers(1, 50))
def test_largest_is_a_stable_sort_of_all(values: np.ndarray, count: int) -> None:
    order = np.argsort(-values, kind="stable")
    expected = order[values[order] > -np.inf][:count]
    assert largest(values, count).tolist() == expected.tolist()


@given(st.integers(0, 1000), st.integers(1, 30))
def test_largest_of_a_vocabulary(seed: int, count: int) -> None:
    values = np.random.default_rng(seed).normal(size=5000).astype(np.float32)
    assert largest(values, count).tolist() == np.argsort(-values)[:count].tolist()


def test_drawn_without_replacement_has_the_distribution_of_one_draw_after_the_other() -> None:
    """Each ordered pair: p(a) * p(b) / (1 - p(a)), by chi-square."""
    rng, draws = np.random.default_rng(0), 20_000
    p = np.array([0.4, 0.3, 0.2, 0.1])
    values = np.array([*np.log(p) + 5, -np.inf], np.float32)
    pairs = list(permutations(range(4), 2))
    counts = dict.fromkeys(pairs, 0)
    for _ in range(draws):
        a, b = drawn(values, 2, rng).tolist()
        counts[a, b] += 1
    expected = np.array([draws * p[a] * p[b] / (1 - p[a]) for a, b in pairs])
    chi_square = ((np.array(list(counts.values())) - expected) ** 2 / expected).sum()
    assert chi_square < 31.264  # the 0.999 quantile of 11 degrees of freedom


@pytest.mark.parametrize(("count", "found"), [(2, 2), (3, 3), (9, 3)])
def test_drawn_gives_what_there_is(count: int, found: int) -> None:
    values = np.array([0, -np.inf, 1, 2, -np.inf], np.float32)
    index = drawn(values, count, np.random.default_rng(1)).tolist()
    assert len(index) == len(set(index)) == found
    assert set(index) <= {0, 2, 3}
