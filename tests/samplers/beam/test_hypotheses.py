"""The best of the hypotheses that ended, and when a search is over, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx.samplers import GenerationParams, Hypothesis
from gpt2onnx.samplers.beam.hypotheses import FinishedBeams

PROMPT = np.array([7, 8])


def hypothesis(length: int, score: float) -> Hypothesis:
    written = Hypothesis.of(PROMPT, ())
    for token in range(length):
        written = written.continued(token, score, -1.0, token % 2, ())
    return written


def finished(*scores: float, length: int = 4, **parameters: Any) -> FinishedBeams:
    beams = FinishedBeams(2, GenerationParams(num_beams=2, **parameters), limit=10)
    for score in scores:
        beams.add(hypothesis(length, score), "eos")
    return beams


def test_a_hypothesis_goes_on_and_its_parent_stays() -> None:
    parent = hypothesis(2, -3.0)
    child = parent.continued(9, -4.5, -1.5, 1, ((1,),))
    assert child.tokens.tolist() == [7, 8, 0, 1, 9]
    assert child.logprobs.tolist() == [-1, -1, -1.5]
    assert child.beams.tolist() == [0, 1, 1]
    assert (child.score, child.length, child.progress) == (-4.5, 3, ((1,),))
    assert (parent.score, parent.length) == (-3.0, 2)


def test_the_best_are_kept_best_first_and_of_equals_the_first() -> None:
    beams = finished(-8.0, -4.0, -6.0)
    assert [each.score for each in beams.ranked] == [-1.0, -1.5]
    beams.add(hypothesis(4, -6.0), "limit")
    assert [each.ending for each in beams.ranked] == ["eos", "eos"]


@pytest.mark.parametrize(("penalty", "score"), [(None, -2.0), (0.0, -8.0), (2.0, -0.5), (-1, -32)])
def test_the_score_is_divided_by_a_power_of_the_length(penalty: float | None, score: float) -> None:
    assert finished(-8.0, length_penalty=penalty).ranked[0].score == score


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_never_final_before_there_are_as_many_as_beams(early_stopping: bool | str) -> None:
    beams = finished(-4.0, early_stopping=early_stopping)
    assert not beams.are_final(hypothesis(5, -1000.0))


@pytest.mark.parametrize(
    ("early_stopping", "length_penalty", "final"),
    [
        (True, 1.0, True),  # at once
        (False, 1.0, False),  # -9.9 / 5 > -2: it could end now and be better
        ("never", 1.0, False),
        (False, 0.0, True),  # -9.9 < -8
        ("never", 0.0, True),
        ("never", -1.0, True),
    ],
)
def test_final_with_a_good_hypothesis_running(
    early_stopping: bool | str, length_penalty: float, final: bool
) -> None:
    beams = finished(-4.0, -8.0, early_stopping=early_stopping, length_penalty=length_penalty)
    assert beams.are_final(hypothesis(5, -9.9)) == final


@pytest.mark.parametrize(("score", "final"), [(-8.001, True), (-8.0, True), (-7.999, False)])
def test_as_good_is_not_better(score: float, final: bool) -> None:
    assert finished(-4.0, -8.0).are_final(hypothesis(4, score)) == final


def test_a_longer_text_is_worse_with_a_negative_penalty() -> None:
    """-4 * 5 is better than -8 * 4, -4 * 10, at the limit, would not be."""
    beams = finished(-4.0, -8.0, early_stopping="never", length_penalty=-1.0)
    assert not beams.are_final(hypothesis(5, -4.0))


@pytest.mark.parametrize(("early_stopping", "final"), [(False, True), ("never", False)])
def test_a_longer_text_may_still_win(early_stopping: bool | str, final: bool) -> None:
    """-12 / 5 is worse than -2, -12 / 10, at the limit, better."""
    beams = finished(-4.0, -8.0, early_stopping=early_stopping)
    assert beams.are_final(hypothesis(5, -12.0)) == final
