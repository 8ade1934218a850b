"""Which continuations a beam looks at, and how stages of progress share it."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2onnx.samplers.beam.allocation import allocate, by_rounds
from gpt2onnx.samplers.beam.forced_words import Phrases


@pytest.mark.parametrize(
    ("needed", "order"),
    [
        ([], []),
        ([2, 2, 2], [0, 1, 2]),
        ([2, 2, 1, 0, 2, 0], [3, 2, 0, 5, 1, 4]),
        ([0, 5, 5], [0, 1, 2]),
    ],
)
def test_each_stage_has_its_share(needed: list[int], order: list[int]) -> None:
    assert by_rounds(needed) == order


# Two hypotheses, five tokens. The phrases are 4 and 2 3; the second hypothesis has the 2.
SCORES = np.log(np.array([[0.5, 0.3, 0.1, 0.06, 0.04], [0.4, 0.3, 0.2, 0.06, 0.04]], np.float32))
PHRASES = Phrases([[(4,)], [(2, 3)]])
PROGRESS = [PHRASES.start, PHRASES.advance(PHRASES.start, 2)]


def chosen(count: int, left: int) -> list[tuple[int, int]]:
    flat = allocate(SCORES, PROGRESS, PHRASES, count, left)
    return [divmod(each, SCORES.shape[1]) for each in flat]


def test_tokens_of_the_phrases_and_the_best_of_each_hypothesis_are_among_them() -> None:
    """After (1, 3) 1 token is needed, after (0, 2), (0, 4) and (1, 4) 2, after the others 3."""
    assert chosen(count=1, left=9) == [(1, 3), (0, 2), (0, 0), (0, 4), (1, 0), (1, 4)]


def test_so_are_the_best_of_all() -> None:
    assert {(0, 1), (1, 1), (1, 2)} <= set(chosen(count=6, left=9))


@pytest.mark.parametrize("left", range(5))
def test_what_could_not_be_completed_any_more_is_left_out(left: int) -> None:
    for parent, token in chosen(count=10, left=left):
        assert PHRASES.needed(PHRASES.advance(PROGRESS[parent], token)) <= left
    assert bool(chosen(count=10, left=left)) == (left > 0)


def test_impossible_tokens_are_left_out() -> None:
    scores = SCORES.copy()
    scores[:, [0, 3]] = -np.inf
    flat = allocate(scores, PROGRESS, PHRASES, 10, 9)
    assert sorted(each % 5 for each in flat) == [1, 1, 2, 2, 4, 4]
