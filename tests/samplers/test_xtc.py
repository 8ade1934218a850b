"""XTC against its author's description, token by token, and its dice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2onnx.samplers import Candidates, generator
from gpt2onnx.samplers.xtc import xtc


def of(*probabilities: float) -> Candidates:
    return Candidates.of(np.log(np.array(probabilities, np.float32)))


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [
        (0.09, [3]),  # all four are choices: only the least probable of them stays
        (0.19, [2, 3]),  # 0.4, 0.3 and 0.2 are: 0.2 stays, and what is no choice
        (0.29, [1, 2, 3]),
        (0.39, [0, 1, 2, 3]),  # one choice alone isn't taken away
        (0.45, [0, 1, 2, 3]),
    ],
)
def test_by_hand(threshold: float, kept: list[int]) -> None:
    candidates = of(0.4, 0.3, 0.2, 0.1)
    result = xtc(candidates, threshold=threshold, probability=1.0, rng=generator(0, 0))
    assert result.ids.tolist() == kept
    np.testing.assert_array_equal(result.logits, candidates.logits[kept])


def test_ids_need_not_be_in_order_of_probability() -> None:
    result = xtc(of(0.1, 0.35, 0.05, 0.5), threshold=0.3, probability=1.0, rng=generator(0, 0))
    assert result.ids.tolist() == [0, 1, 2]


def reference(logits: np.ndarray, threshold: float) -> list[int]:
    """The author's words: of all tokens that meet the threshold, only the least probable stays."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    ranked = np.argsort(-weights, kind="stable")
    viable = [token for token in ranked if weights[token] / weights.sum() >= threshold]
    return sorted(set(ranked.tolist()) - set(viable[:-1]))


@given(
    logits=st.lists(st.integers(-40, 40), min_size=1, max_size=30, unique=True),
    threshold=st.floats(0.01, 0.5),
)
@settings(max_examples=200, deadline=None)
def test_is_the_authors_definition(logits: list[int], threshold: float) -> None:
    row = np.array(logits, np.float32) / 8
    result = xtc(Candidates.of(row), threshold=threshold, probability=1.0, rng=generator(0, 0))
    assert result.ids.tolist() == reference(row, threshold)


def test_happens_with_its_probability() -> None:
    rng, candidates = generator(1, 0), of(0.5, 0.3, 0.2)
    cut = sum(
        len(xtc(candidates, probability=0.3, rng=rng).ids) == 1 for _ in range(4000)
    )  # all are choices at the default threshold, 0.1
    assert cut == pytest.approx(1200, abs=120)  # four standard deviations


@pytest.mark.parametrize(("probability", "kept"), [(0.0, 3), (1.0, 1)])
def test_never_and_always(probability: float, kept: int) -> None:
    rng = generator(2, 0)
    for _ in range(50):
        assert len(xtc(of(0.5, 0.3, 0.2), probability=probability, rng=rng).ids) == kept


@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_takes_one_number_a_step(probability: float) -> None:
    rng, same = generator(3, 0), generator(3, 0)
    for candidates in (of(1.0), of(0.9, 0.1), of(0.5, 0.5), of(0.4, 0.3, 0.2, 0.1)):
        xtc(candidates, probability=probability, rng=rng)
        same.random()
    assert rng.random() == same.random()


def test_equal_choices_stay_together() -> None:
    result = xtc(of(0.4, 0.2, 0.2, 0.2), probability=1.0, rng=generator(0, 0))
    assert result.ids.tolist() == [1, 2, 3]
