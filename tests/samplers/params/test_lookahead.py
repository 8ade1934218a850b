"""Lookahead decoding's parameters: what is accepted, refused, and made of a model's defaults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.decoding.lookahead.lookahead import LookaheadSizes, lookahead_sizes
from gpt2onnx.samplers import GenerationParams, defaults_from_generation_config
from gpt2onnx.samplers.params import LOOKAHEAD
from tests.raising import raises

ALL = {"lookahead_window_size": 7, "lookahead_ngram_size": 5, "lookahead_guess_set_size": 3}
WINDOW = {"lookahead_window_size": 7}
LOOKUP = {"prompt_lookup_num_tokens": 10}


def test_sizes() -> None:
    assert tuple(ALL) == LOOKAHEAD
    assert lookahead_sizes(GenerationParams()) is None
    given = {name: np.int64(size) for name, size in ALL.items()}
    assert lookahead_sizes(GenerationParams(**given)) == LookaheadSizes(7, 5, 3)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("lookahead_window_size", (7, 4, 1)),
        ("lookahead_ngram_size", (1, 5, 1)),
        ("lookahead_guess_set_size", (1, 4, 3)),
    ],
)
def test_any_size_turns_it_on(name: str, sizes: tuple[int, int, int]) -> None:
    assert lookahead_sizes(GenerationParams(**{name: ALL[name]})) == sizes


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"lookahead_window_size": 0}, ("lookahead_window_size",)),
        ({"lookahead_guess_set_size": 2.5}, ("lookahead_guess_set_size",)),
        (
            {"lookahead_guess_set_size": 3, "num_beams": 2},
            ("num_beams", "lookahead_guess_set_size"),
        ),
        ({**ALL, "overflow": "slide"}, ("overflow", "lookahead_window_size")),
        ({**WINDOW, "penalty_alpha": 0.6, "top_k": 4}, ("penalty_alpha", "lookahead_window_size")),
        ({**WINDOW, "guidance_scale": 2}, ("guidance_scale", "lookahead_window_size")),
    ],
)
def test_refuses(parameters: dict[str, Any], named: tuple[str, ...]) -> None:
    with raises(ParameterError, named=named):
        GenerationParams(**parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"lookahead_ngram_size": 1}, "lookahead_ngram_size=1: expected an integer of at least 2"),
        ({**WINDOW, **LOOKUP}, "prompt_lookup_num_tokens=10 with lookahead_window_size=7: both"),
    ],
)
def test_says_why(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GenerationParams(**parameters)


def test_defaults_of_a_generation_config() -> None:
    assert defaults_from_generation_config(ALL) == ALL
    assert lookahead_sizes(GenerationParams.create({}, ALL)) == LookaheadSizes(7, 5, 3)


@pytest.mark.parametrize(
    "given", [{"num_beams": 2}, {"overflow": "slide"}, {"guidance_scale": 2}, LOOKUP]
)
def test_a_default_gives_way(given: dict[str, Any]) -> None:
    assert lookahead_sizes(GenerationParams.create(given, ALL)) is None


def test_a_default_lookup_gives_way() -> None:
    defaults = {**LOOKUP, "max_matching_ngram_size": 3}
    params = GenerationParams.create(WINDOW, defaults)
    assert (params.prompt_lookup_num_tokens, params.max_matching_ngram_size) == (None, None)
    assert lookahead_sizes(params) == LookaheadSizes(7)
    kept = GenerationParams.create({"lookahead_window_size": None}, defaults)
    assert kept.prompt_lookup_num_tokens == 10


def test_given_beside_a_default_says_where_that_came_from() -> None:
    with raises(ParameterError, parameters={"num_beams": 4, "lookahead_window_size": 7}):
        GenerationParams.create(WINDOW, {"num_beams": 4})
