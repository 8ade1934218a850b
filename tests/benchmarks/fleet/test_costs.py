"""Costs of turns: what is fitted is what turns were made of; what is metered, what was read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.fleet.costs import Costs, Turn, Work, fitted
from benchmarks.fleet.meter import Meter
from gpt2onnx.runtime.decoder.protocol import Read
from tests.fake_decoder import FakeDecoder, by_history

COSTS = Costs(0.01, 0.002, 0.003, 0.001, 1e-6, 2e-7, submit=0.004, rows=8, chunk=64)


def works(count: int) -> list[Work]:
    rng = np.random.default_rng(0)
    return [Work(1, *rng.integers(0, 9, 2), *rng.integers(0, 5000, 3)) for _ in range(count)]


def test_seconds_of_a_turn() -> None:
    work = Work(1, 2, 3, 40, 500, 6000)
    expected = 0.01 + 2 * 0.002 + 3 * 0.003 + 40 * 0.001 + 500e-6 + 6000 * 2e-7
    assert COSTS.seconds(work) == pytest.approx(expected)
    assert COSTS.tokens_per_second(100) == pytest.approx(8 / (0.01 + 8 * (0.002 + 100e-6)))


def test_costs_are_found_again() -> None:
    turns = [Turn(work, 0.0, COSTS.seconds(work)) for work in works(50)]
    assert fitted(turns, 0.004, 8, 64) == pytest.approx(COSTS)


def test_all_turns_take_what_they_took() -> None:
    """With noise, and a kind of work that seems to give time back: it costs nothing."""
    rng = np.random.default_rng(1)
    costs = COSTS._replace(part=-0.001)
    turns = [Turn(work, 0.0, costs.seconds(work) * rng.uniform(0.5, 3)) for work in works(400)]
    found = fitted(turns, 0.0, 8, 64)
    assert min(found[:6]) == 0
    total = sum(found.seconds(each.work) for each in turns)
    assert total == pytest.approx(sum(each.seconds for each in turns), rel=0.01)


def test_a_meter_notes_reads_and_no_sleep() -> None:
    now = iter([10.0, 11.0, 13.0, 50.0, 52.0, 70.0])
    meter: Any = Meter(FakeDecoder(by_history(9)), clock=lambda: next(now))
    assert meter.n_positions == 1024  # whatever else is asked
    one, other = meter.new_row(), meter.new_row()
    prompt, token = np.arange(4), np.array([5])
    meter.read([Read(one, prompt, prompt=True), Read(other, token)])  # at 10
    meter.read([Read(one, token), Read(other, token)])  # at 11: the first turn took 1 s
    meter.free(one)
    meter.free(other)  # at 13, and nothing is left
    row = meter.new_row()
    meter.read([Read(row, prompt, prompt=True)])  # at 50
    meter.free(row)
    assert meter.turns == [
        Turn(Work(1, 1, 1, 4, 1, 10), 10.0, 1.0),
        Turn(Work(1, 2, 0, 0, 5 + 2, 0), 11.0, 2.0),
        Turn(Work(1, 0, 1, 4, 0, 10), 50.0, 2.0),
    ]
