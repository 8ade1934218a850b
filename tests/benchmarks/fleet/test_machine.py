"""Simulated machines, beside what a few requests take by hand, and beside an engine's own turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.arrivals import Asked, requests
from benchmarks.fleet.__main__ import _fewest
from benchmarks.fleet.costs import Costs, Turn, Work
from benchmarks.fleet.machine import Machine, simulate
from benchmarks.fleet.meter import Meter
from benchmarks.fleet.pace import Pace
from gpt2onnx import Engine, Model

# A turn takes 8 s, each of its rows 1 s, a token of a prompt 0.5 s.
COSTS = Costs(8, 1, 0, 0.5, rows=2, chunk=4)


def asked(length: int, new: int, arrival: float = 0.0) -> Asked:
    return Asked([1] * length, new, arrival)


def test_one_request() -> None:
    """Six tokens in two even chunks, the second of which gives the first token, then two steps."""
    found = simulate([asked(6, 3, 10)], 1, COSTS)
    assert found.first == [2 * 9.5]
    assert found.seconds == 10 + 19 + 2 * 9


def test_a_prompt_beside_a_row_that_decodes() -> None:
    """The first reads 10 s. Then the second's chunk of 2 s shares a turn with the first's step."""
    found = simulate([asked(4, 3), asked(4, 2, 1)], 1, COSTS)
    assert found.first == [10.0, 10 + 11 - 1]
    assert found.seconds == 10 + 11 + 10


def test_one_that_waits_for_a_row() -> None:
    found = simulate([asked(2, 2), asked(2, 2), asked(2, 1)], 1, COSTS)
    assert found.first == [10.0, 10.0, 10 + 10 + 9]


def test_positions_cost() -> None:
    """The prompt's two attend to 1 and 2, the step behind them to 3."""
    costs = Costs(0, 0, row_position=1, token_position=0.1)
    found = simulate([asked(2, 2)], 1, costs)
    assert found.first == [pytest.approx(0.3)]
    assert found.seconds == pytest.approx(3.3)


def test_what_comes_later_than_it_was_sent() -> None:
    costs = COSTS._replace(submit=3.0)
    assert simulate([asked(2, 1)], 1, costs).first == [12.0]
    assert simulate([asked(2, 1)], 1, costs, taken=[5.0]).first == [14.0]


def test_it_goes_where_least_is() -> None:
    three = [asked(2, 2), asked(2, 2), asked(2, 2, 0.5)]
    assert simulate(three, 3, COSTS).first == [9.0, 9.0, 9.0]


def test_enough_machines() -> None:
    costs = Costs(0.02, 0.001, 0, 0.001)
    load = requests(300, 100, 40.0)
    machines = _fewest(load, costs, 0.5)
    enough, fewer = (sorted(simulate(load, n, costs).first) for n in (machines, machines - 1))
    assert machines > 1
    assert enough[-4] <= 0.5 < fewer[-3]


def test_a_pace_is_that_of_its_turns() -> None:
    """The turn of 9 s took 18; nothing is known of the time after it."""
    work = Work(turns=1, parts=1, tokens=2)
    pace = Pace([Turn(work, 102.0, 18.0)], COSTS, start=100.0)
    assert pace.after(0, 1) == 1
    assert pace.after(2, 9) == 20
    assert pace.after(11, 4.5) == 20
    assert pace.after(11, 5.5) == 21
    assert pace.after(30, 4) == 34
    slow = Pace([Turn(work, 0.0, 18.0)], COSTS, start=0.0)
    assert simulate([asked(2, 2)], 1, COSTS, slow).first == [18.0]


def test_its_turns_are_an_engine_s(model: Model) -> None:
    """All turns, to the last token, of more prompts than there are rows."""
    lengths, rows, new = [3, 40, 17, 2, 33, 8, 21], 3, 9
    meter: Any = Meter(model.decoder)
    own = model.decoder
    model.decoder = meter
    try:
        with Engine(model, max_rows=rows) as engine:
            prompts = [[1 + n] * length for n, length in enumerate(lengths)]
            engine.submit(prompts, max_new_tokens=new, eos_token_id=[]).result()
    finally:
        model.decoder = own
    works: list[Work] = []
    costs: Any = SimpleNamespace(
        rows=rows, chunk=own.chunk, seconds=lambda work: works.append(work) or 1.0
    )
    machine, first = Machine(costs), [0.0] * len(lengths)
    for number, length in enumerate(lengths):
        machine.add(asked(length, new), number, 0.0)
    machine.advance(float("inf"), first)
    assert works == [turn.work for turn in meter.turns]
