"""Speculation's parameters: what is accepted, refused, and made of a model's defaults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import GenerationParams, defaults_from_generation_config
from tests.raising import raises

LOOKUP = {"prompt_lookup_num_tokens": 10, "max_matching_ngram_size": 3}


def test_keeps_integers() -> None:
    params = GenerationParams(**{name: np.int64(value) for name, value in LOOKUP.items()})
    assert {name: getattr(params, name) for name in LOOKUP} == LOOKUP
    assert type(params.prompt_lookup_num_tokens) is int
    assert GenerationParams(num_assistant_tokens=4).num_assistant_tokens == 4


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"num_assistant_tokens": 0}, ("num_assistant_tokens",)),
        ({"assistant_confidence_threshold": 1.5}, ("assistant_confidence_threshold",)),
        ({"prompt_lookup_num_tokens": 2.5}, ("prompt_lookup_num_tokens",)),
        ({**LOOKUP, "max_matching_ngram_size": 0}, ("max_matching_ngram_size",)),
        ({"max_matching_ngram_size": 2}, ("max_matching_ngram_size", "prompt_lookup_num_tokens")),
    ],
)
def test_refuses(parameters: dict[str, Any], named: tuple[str, ...]) -> None:
    with raises(ParameterError, named=named):
        GenerationParams(**parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {**LOOKUP, "num_beams": 2},
            "num_beams=2 with prompt_lookup_num_tokens=10: a draft foresees",
        ),
        (
            {**LOOKUP, "overflow": "slide"},
            "overflow='slide' with prompt_lookup_num_tokens=10: drafts end ",
        ),
    ],
)
def test_says_why(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GenerationParams(**parameters)


def test_defaults_of_a_generation_config() -> None:
    draft = {"num_assistant_tokens": 20, "assistant_confidence_threshold": 0.4}
    file = {**LOOKUP, **draft}
    assert defaults_from_generation_config(file) == file


@pytest.mark.parametrize("given", [{"num_beams": 2}, {"overflow": "slide"}])
def test_a_default_lookup_gives_way(given: dict[str, Any]) -> None:
    params = GenerationParams.create(given, LOOKUP)
    assert (params.prompt_lookup_num_tokens, params.max_matching_ngram_size) == (None, None)


def test_a_default_size_needs_a_lookup() -> None:
    size = {"max_matching_ngram_size": 3}
    assert GenerationParams.create({}, size).max_matching_ngram_size is None
    params = GenerationParams.create({"prompt_lookup_num_tokens": 4}, size)
    assert params.max_matching_ngram_size == 3
    off = GenerationParams.create({"prompt_lookup_num_tokens": None}, LOOKUP)
    assert off.max_matching_ngram_size is None


def test_a_given_lookup_beside_default_beams_says_where_they_came_from() -> None:
    with raises(ParameterError, parameters={"num_beams": 4, "prompt_lookup_num_tokens": 10}):
        GenerationParams.create(LOOKUP, {"num_beams": 4})
