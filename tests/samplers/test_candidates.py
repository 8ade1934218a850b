"""What a row of logits leaves possible."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import Candidates


def test_all_tokens_of_a_finite_row() -> None:
    logits = np.array([2, -1, 0], np.float32)
    candidates = Candidates.of(logits)
    assert candidates.ids.tolist() == [0, 1, 2]
    assert candidates.logits is logits


def test_what_is_at_minus_infinity_is_out() -> None:
    candidates = Candidates.of(np.array([-np.inf, 3, -np.inf, 1], np.float32))
    assert candidates.ids.tolist() == [1, 3]
    assert candidates.logits.tolist() == [3, 1]


def test_probabilities_are_a_softmax_over_the_candidates() -> None:
    candidates = Candidates.of(np.log(np.array([6, 1, 3], np.float32)) + 500)
    np.testing.assert_allclose(candidates.probabilities(), [0.6, 0.1, 0.3], rtol=1e-4)
    few = candidates.where(np.array([True, False, True]))
    np.testing.assert_allclose(few.probabilities(), [2 / 3, 1 / 3], rtol=1e-4)


def test_no_token_left_is_an_error() -> None:
    with pytest.raises(ParameterError, match="the constraints leave no token"):
        Candidates.of(np.full(5, -np.inf, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_without_a_distribution_are_an_error(value: float) -> None:
    with pytest.raises(ParameterError, match=rf"maximum is {value}"):
        Candidates.of(np.array([0, value, -np.inf], np.float32))


def test_the_shared_ids_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Candidates.of(np.zeros(4, np.float32)).ids[0] = 1
