"""The simulated machines, beside what a few requests take by hand."""

from __future__ import annotations

import pytest

from benchmarks.arrivals import Asked, requests
from benchmarks.fleet import Costs, _fewest, simulate

# A step takes 8 s, each of its rows 1 s, a token of a prompt 0.5 s.
COSTS = Costs(8, 1, 0.5, rows=2, chunk=4)


def asked(length: int, new: int, arrival: float = 0.0) -> Asked:
    return Asked([1] * length, new, arrival)


def test_one_request() -> None:
    """Six tokens in two chunks, the second of which gives the first token, then two steps."""
    found = simulate([asked(6, 3, 10)], 1, COSTS)
    assert found.first == [3.0]
    assert found.seconds == 10 + 3 + 2 * 9


def test_a_prompt_beside_a_row_that_decodes() -> None:
    """The first reads 2 s. Then the second's chunk of 2 s shares a turn with the first's step."""
    found = simulate([asked(4, 3), asked(4, 2, 1)], 1, COSTS)
    assert found.first == [2.0, 2 + 2 + 9 - 1]
    assert found.seconds == 2 + 11 + 10


def test_one_that_waits_for_a_row() -> None:
    found = simulate([asked(2, 2), asked(2, 2), asked(2, 1)], 1, COSTS)
    assert found.first == [2.0, 2.0, 2 + 10 + 1]


def test_it_goes_where_least_is() -> None:
    three = [asked(2, 2), asked(2, 2), asked(2, 2, 0.5)]
    assert simulate(three, 3, COSTS).first == [1.0, 1.0, 1.0]


def test_enough_machines() -> None:
    costs = Costs(0.02, 0.001, 0.001)
    load = requests(300, 100, 40.0)
    machines = _fewest(load, costs, 0.5)
    enough, fewer = (sorted(simulate(load, n, costs).first) for n in (machines, machines - 1))
    assert machines > 1
    assert enough[-4] <= 0.5 < fewer[-3]


def test_a_rate() -> None:
    assert COSTS.tokens_per_second == pytest.approx(2 / 10)
