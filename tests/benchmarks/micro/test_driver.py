"""How small benchmarks measure, on contenders whose times are given."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from benchmarks.micro.driver import Report, Timed, equal_tokens, in_turn, timed


def contender(seen: list[str], name: str, *seconds: float) -> Callable[[], Timed]:
    """Takes these times, one a run, and notes that it ran."""
    left = iter(seconds)

    def run() -> Timed:
        seen.append(name)
        return Timed(next(left), f"{name} {len(seen)}")

    return run


def test_contenders_take_turns_and_the_first_round_does_not_count() -> None:
    seen: list[str] = []
    ways = {"a": contender(seen, "a", 9, 1, 4, 2), "b": contender(seen, "b", 9, 2, 2, 2)}
    results = in_turn(ways, rounds=3)
    assert seen == ["a", "b"] * 4
    assert results["a"].seconds == [1, 4, 2]
    assert (results["a"].ms, results["a"].least_ms) == (2000, 1000)
    assert results["a"].answer == "a 7"


def test_a_ratio_is_that_of_rounds() -> None:
    """A round in which the machine is slow slows both: the ratio of medians would be 2.5."""
    seen: list[str] = []
    ways = {"a": contender(seen, "a", 0, 2, 5, 50), "b": contender(seen, "b", 0, 1, 2, 25)}
    results = in_turn(ways, rounds=3)
    assert results["a"].times(results["b"]) == 2
    assert results["b"].times(results["a"]) == 0.5


def test_a_call_is_timed_with_what_it_gives() -> None:
    seconds, answer = timed(lambda: "done")
    assert seconds >= 0
    assert answer == "done"


@pytest.mark.parametrize(
    ("tokens", "expected", "equal"),
    [([1, 2, 3], [1, 2, 3], 3), ([1, 2, 3], [1, 5, 3], 1), ([], [1], 0), ([1, 2], [1, 2, 3], 2)],
)
def test_equal_tokens(tokens: list[int], expected: list[int], equal: int) -> None:
    assert equal_tokens(tokens, expected) == equal


def test_rows_are_printed_as_they_come_and_all_of_them_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report("way", "ms", "times as fast", "agreement")
    report.row("plain", 1.23456, 1.0, None)
    report.row("other", 12345.6, 0.5, "same tokens")
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{'way':<28}        ms  times as fast  agreement",
        f"{'plain':<28}     1.235              1          -",
    ]
    assert last.rstrip() == f"{'other':<28} 1.235e+04            0.5  same tokens"
    report.end(rounds=3)
    assert json.loads(capsys.readouterr().out) == {
        "rounds": 3,
        "rows": [
            {"way": "plain", "ms": 1.23456, "times as fast": 1.0, "agreement": None},
            {"way": "other", "ms": 12345.6, "times as fast": 0.5, "agreement": "same tokens"},
        ],
    }
