from __future__ import annotations

import pytest

from benchmarks.agreement import agree, equal_share, equal_tokens, top1


@pytest.mark.parametrize(
    ("tokens", "count"), [([1, 2, 3], 3), ([1, 9, 3], 1), ([9, 2, 3], 0), ([1, 2], 2), ([], 0)]
)
def test_what_follows_the_first_difference_does_not_count(tokens: list[int], count: int) -> None:
    assert equal_tokens([1, 2, 3], tokens) == count


def test_rows_are_compared_each_by_itself() -> None:
    reference = [[1, 5], [2, 6], [3, 7], [4, 8]]  # [steps][rows]
    steps = [[1, 5], [2, 0], [3, 7], [0, 8]]
    assert equal_share(reference, steps) == (3 / 4 + 1 / 4) / 2
    assert top1(reference, steps) == 6 / 8


def test_a_run_of_its_own_tokens_is_a_lower_bound() -> None:
    reference, steps = [[1], [2], [3]], [[1], [9], [3]]
    assert agree(reference, steps, forced=True) == {"top1": 2 / 3, "at_least": False}
    assert agree(reference, steps, forced=False) == {"top1": 1 / 3, "at_least": True}
