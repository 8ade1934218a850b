"""Parameters that rank whole texts: what is accepted, refused, and made of a model's defaults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.params.rules import STREAM_EXCLUDES
from tests.raising import raises

SAMPLE: dict[str, Any] = {"do_sample": True}
ALTERNATIVES: dict[str, Any] = {"return_alternatives": True, "num_return_sequences": 3}


def test_keeps_integers() -> None:
    params = GenerationParams(**SAMPLE, best_of=np.int64(4), num_return_sequences=2)
    assert params.best_of == params.num_drawn == 4
    assert type(params.best_of) is int
    assert GenerationParams(**SAMPLE, num_return_sequences=2).num_drawn == 2


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({**SAMPLE, "best_of": 0}, ("best_of",)),
        ({**SAMPLE, "best_of": True}, ("best_of",)),
        ({"best_of": 3}, ("best_of",)),
        ({"return_alternatives": 1}, ("return_alternatives",)),
        ({**ALTERNATIVES, **SAMPLE, "best_of": 3}, ("return_alternatives", "best_of")),
        ({"num_return_sequences": 2}, ("num_return_sequences", "num_beams")),
        ({**SAMPLE, "best_of": 2, "num_return_sequences": 3}, ("num_return_sequences", "best_of")),
    ],
)
def test_refuses(parameters: dict[str, Any], named: tuple[str, ...]) -> None:
    with raises(ParameterError, named=named):
        GenerationParams(**parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {**SAMPLE, "best_of": 3, "num_beams": 2},
            "num_beams=2 with best_of=3: both say which texts are best; lea",
        ),
        ({**ALTERNATIVES, "num_return_sequences": 1}, "num_return_sequences=1 gives the most prob"),
        (
            {**ALTERNATIVES, "num_beams": 3},
            "num_beams=3 with return_alternatives=True: both say which text",
        ),
    ],
)
def test_says_why(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GenerationParams(**parameters)


@pytest.mark.parametrize("given", [{"do_sample": False}, {"num_beams": 2}])
def test_a_default_gives_way(given: dict[str, Any]) -> None:
    assert GenerationParams.create(given, {**SAMPLE, "best_of": 4}).best_of is None


def test_default_alternatives() -> None:
    assert GenerationParams.create({"return_alternatives": True}, {"num_return_sequences": 3}) == (
        GenerationParams(**ALTERNATIVES)
    )
    assert not GenerationParams.create({"num_beams": 3}, ALTERNATIVES).return_alternatives


@pytest.mark.parametrize("parameters", [{"num_beams": 2}, {**SAMPLE, "best_of": 2}])
def test_what_no_stream_can_show(parameters: dict[str, Any]) -> None:
    name, value = list(parameters.items())[-1]
    with pytest.raises(ParameterError, match=f"stream with {name}={value}: .* a stream shows each"):
        GenerationParams(**parameters).check_beside(STREAM_EXCLUDES)
    GenerationParams(**SAMPLE, num_return_sequences=2).check_beside(STREAM_EXCLUDES)
