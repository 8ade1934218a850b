"""Agreement of logits: by hand, and by torch's own functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2onnx.agreement import Agreement


def logits(*probabilities: tuple[float, ...]) -> Any:
    return np.log(np.array(probabilities, np.float32))


def agreement(reference: Any, candidate: Any) -> Agreement:
    result = Agreement()
    result.add(reference, candidate)
    return result


def drawn(seed: int, positions: int, vocab: int, distance: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    reference = rng.normal(0, 3, (positions, vocab)).astype(np.float32)
    noise = rng.normal(0, distance, (positions, vocab)).astype(np.float32)
    return reference, reference + noise


def test_worked_by_hand() -> None:
    result = agreement(logits((0.5, 0.5), (0.9, 0.1)), logits((0.25, 0.75), (0.9, 0.1)))
    # 0.5 log(0.5 / 0.25) + 0.5 log(0.5 / 0.75) at the first position, nothing at the second
    first = (math.log(2) + math.log(2 / 3)) / 2
    assert result.tokens == 2
    np.testing.assert_allclose(result.kl_by_position, [first, 0], atol=1e-7)
    assert result.kl_mean == pytest.approx(first / 2)
    assert result.kl_p99 == pytest.approx(0.99 * first)  # between 0 and `first`, 99 % of the way
    assert result.top1_by_position.tolist() == [False, True]
    assert result.top1_agreement == 0.5
    assert result.max_logit_difference == pytest.approx(math.log(2))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from([1e-6, 1e-3, 1.0, 1e4]), st.integers(1, 40))
def test_the_percentile_over_all_logits(seed: int, distance: float, positions: int) -> None:
    reference, candidate = drawn(seed, positions, 97, distance)
    differences = np.abs(reference - candidate)
    exact = float(np.quantile(differences, 0.999, method="inverted_cdf"))
    found = agreement(reference, candidate).logit_difference_p999
    assert exact * (1 - 2**-8) < found <= exact
    assert agreement(reference, candidate).max_logit_difference == differences.max()


def test_one_logit_in_a_thousand_does_not_count() -> None:
    reference = np.zeros((1, 1000), np.float32)
    candidate = reference.copy()
    candidate[0, 7] = 5
    result = agreement(reference, candidate)
    assert (result.logit_difference_p999, result.max_logit_difference) == (0, 5)
    candidate[0, 8] = 2
    assert agreement(reference, candidate).logit_difference_p999 == 2


def test_pieces_make_the_whole() -> None:
    reference, candidate = drawn(1, 100, 50, 0.5)
    whole, pieces = agreement(reference, candidate), Agreement()
    for part in (slice(0, 1), slice(1, 60), slice(60, 60), slice(60, 100)):
        pieces.add(reference[part], candidate[part])
    assert pieces.tokens == 100
    np.testing.assert_array_equal(pieces.kl_by_position, whole.kl_by_position)
    np.testing.assert_array_equal(pieces.top1_by_position, whole.top1_by_position)
    for figure in ("kl_mean", "kl_p99", "top1_agreement", "max_logit_difference"):
        assert getattr(pieces, figure) == getattr(whole, figure)
    assert pieces.logit_difference_p999 == whole.logit_difference_p999


def test_the_same_logits() -> None:
    reference, _ = drawn(2, 5, 40, 0)
    result = agreement(reference, reference)
    assert (result.kl_mean, result.kl_p99, result.top1_agreement) == (0, 0, 1)
    assert (result.max_logit_difference, result.logit_difference_p999) == (0, 0)


def test_a_constant_on_top_changes_no_probability() -> None:
    reference = logits((0.2, 0.3, 0.5))
    result = agreement(reference, reference + 64)
    assert result.kl_mean == pytest.approx(0, abs=1e-10)
    assert result.max_logit_difference == pytest.approx(64)


def test_among_equals_the_first_is_the_top_token() -> None:
    assert agreement(logits((0.5, 0.5)), logits((0.6, 0.4))).top1_agreement == 1
    assert agreement(logits((0.5, 0.5)), logits((0.4, 0.6))).top1_agreement == 0


def test_large_logits_do_not_overflow() -> None:
    reference = np.array([[1e4, -1e4, 0]], np.float32)
    candidate = np.array([[0, -1e4, 1e4]], np.float32)
    assert agreement(reference, candidate).kl_mean == pytest.approx(1e4)


@pytest.mark.parametrize("shape", [(1, 3), (2, 4), (3,)])
def test_shapes_are_not_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"reference \(2, 3\) and candidate"):
        Agreement().add(np.zeros((2, 3), np.float32), np.zeros(shape, np.float32))
