from __future__ import annotations

from typing import Any

import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.smaller.distill.recipe import Recipe
from tests.raising import raises


def recipe(**options: Any) -> Recipe:
    given = {"steps": 300, "tokens": 64, "window": 16, "positions": 64, "learning_rate": 0.5}
    return Recipe(**{**given, "text_share": 0.1, "seed": 0, **options})


def test_the_learning_rate_warms_up_and_falls_to_a_fiftieth() -> None:
    rates = [recipe().rate_at(step) for step in range(1, 301)]
    assert rates[0] == 0.05
    assert rates[9] == 0.5
    assert rates[299] == pytest.approx(0.01)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_the_last_fifth_sees_every_position() -> None:
    windows = [recipe().window_at(step) for step in range(1, 301)]
    assert windows == [16] * 240 + [64] * 60
    assert recipe(window=100).window_at(1) == 64


def test_the_last_step_is_measured() -> None:
    measured = [step for step in range(1, 311) if recipe(steps=310).measures_at(step)]
    assert measured == [*range(15, 311, 15), 310]
    assert [step for step in range(1, 4) if recipe(steps=3).measures_at(step)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("steps", 0), ("steps", 2.0), ("tokens", -1), ("window", True), ("seed", -1)],
        *[("learning_rate", float("nan")), ("learning_rate", 2), ("text_share", 1.1)],
        *[("text_share", "0"), ("seed", None)],
    ],
)
def test_what_is_out_of_range(name: str, value: Any) -> None:
    with raises(ParameterError, parameters={name: value}):
        recipe(**{name: value})
