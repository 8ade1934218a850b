"""Beam search's parameters: what is accepted, refused, and made of a model's defaults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import GenerationParams, defaults_from_generation_config
from tests.raising import raises

BEAMS = {"num_beams": 4}
GROUPS = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0}
PHRASES = {"num_beams": 4, "force_words_ids": [[1, 2]]}


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("length_penalty", 2, 2.0),
        ("length_penalty", -0.5, -0.5),
        ("early_stopping", np.True_, True),
        ("early_stopping", "never", "never"),
        ("num_return_sequences", np.int64(4), 4),
        ("force_words_ids", [[1, 2], [3]], (((1, 2),), ((3,),))),
        ("force_words_ids", [[1, 2], [[3], (4, 5)]], (((1, 2),), ((3,), (4, 5)))),
        ("force_words_ids", np.array([[1, 2], [3, 4]]), (((1, 2),), ((3, 4),))),
        ("force_words_ids", [], None),
    ],
)
def test_keeps_a_value_in_one_form(name: str, value: object, kept: object) -> None:
    params = GenerationParams(**BEAMS, **{name: value})
    assert getattr(params, name) == kept
    assert type(getattr(params, name)) is type(kept)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"num_beams": 0}, ("num_beams",)),
        ({"num_beams": True}, ("num_beams",)),
        ({**BEAMS, "early_stopping": 1}, ("early_stopping",)),
        ({**BEAMS, "num_beam_groups": 0}, ("num_beam_groups",)),
        ({**GROUPS, "diversity_penalty": -1.0}, ("diversity_penalty",)),
        ({**BEAMS, "force_words_ids": [[]]}, ("force_words_ids",)),
        ({**BEAMS, "force_words_ids": [[[1], []]]}, ("force_words_ids",)),
        ({**BEAMS, "force_words_ids": [[-1]]}, ("force_words_ids",)),
        ({**BEAMS, "force_words_ids": "word"}, ("force_words_ids",)),
        ({"early_stopping": False}, ("early_stopping", "num_beams")),
        ({"num_beam_groups": 2}, ("num_beam_groups", "num_beams")),
        ({"diversity_penalty": 0.5}, ("diversity_penalty", "num_beam_groups")),
        ({"force_words_ids": [[1]]}, ("force_words_ids", "num_beams")),
        ({"num_return_sequences": 2}, ("num_return_sequences", "num_beams")),
        ({**BEAMS, "do_sample": True, "xtc_probability": 0.5}, ("num_beams", "xtc_probability")),
        ({**BEAMS, "seed": 1}, ("seed",)),
        ({**BEAMS, "diversity_penalty": 0.5}, ("diversity_penalty", "num_beam_groups")),
        ({**PHRASES, "suppress_tokens": [1]}, ("force_words_ids", "suppress_tokens")),
    ],
)
def test_refuses(parameters: dict[str, Any], named: tuple[str, ...]) -> None:
    with raises(ParameterError, named=named):
        GenerationParams(**parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({**BEAMS, "length_penalty": 11}, "length_penalty=11: expected a number from -10 to 10"),
        ({**BEAMS, "early_stopping": "always"}, "early_stopping='always': expected True, False or"),
        ({**BEAMS, "force_words_ids": [1, 2]}, r"force_words_ids=\[1, 2\]: expected a list of"),
        ({"length_penalty": 1.0}, "length_penalty=1.0 has no effect without num_beams above 1"),
        (
            {**BEAMS, "num_return_sequences": 5},
            "num_return_sequences=5 with num_beams=4: only as many texts ar",
        ),
        (
            {**BEAMS, "overflow": "slide"},
            "num_beams=4 with overflow='slide': beams can't go on past the ",
        ),
        (
            {**BEAMS, "stop_fn": lambda index, history: True},
            "num_beams=4 with stop_fn=<lambda>: which beam becomes the text",
        ),
        (
            {**BEAMS, "do_sample": True, "mirostat_mode": 2},
            "num_beams=4 with mirostat_mode=2: mirostat and XTC follow one ",
        ),
        (
            {**GROUPS, "num_beam_groups": 3},
            "num_beam_groups=3 with num_beams=4: groups must be of one size",
        ),
        ({**BEAMS, "num_beam_groups": 2}, "num_beam_groups=2 without diversity_penalty"),
        (
            {**GROUPS, "do_sample": True},
            "num_beam_groups=2 with do_sample=True: groups are searched, no",
        ),
        ({**PHRASES, "do_sample": True}, "do_sample=True: phrases are searched for"),
        (
            {**GROUPS, **PHRASES},
            r"num_beam_groups=2 with force_words_ids=\(\(\(1, 2\),\),\): each grou",
        ),
        ({**PHRASES, "max_time": 1.0}, r"max_time=1\.0: time may be over"),
        ({**PHRASES, "eos_token_id": 2}, r"force_words_ids=\[\[1, 2\]\] can't come"),
    ],
)
def test_says_why(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GenerationParams(**parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {**BEAMS, "do_sample": True, "seed": 1, "num_return_sequences": 4},
        {**BEAMS, "stop_strings": "x", "max_time": 2.0, "overflow": "truncate"},
        {**GROUPS, "num_return_sequences": 4},
        {**PHRASES, "force_words_ids": [[[1, 2], [3]]], "suppress_tokens": [1]},
    ],
)
def test_accepts(parameters: dict[str, Any]) -> None:
    assert GenerationParams(**parameters).num_beams == 4


def test_the_vocabulary_holds_the_phrases() -> None:
    params = GenerationParams(num_beams=2, force_words_ids=[[3], [[4], [99]]])
    assert params.largest_token == 99
    with raises(ParameterError, named=("force_words_ids",)):
        params.check_vocabulary(99)


FILE = {
    "num_beams": 4,
    "num_return_sequences": 2,
    "length_penalty": 0.5,
    "early_stopping": True,
    "diversity_penalty": 0.0,
    "num_beam_groups": 1,
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {},
            {
                "num_beams": 4,
                "num_return_sequences": 2,
                "length_penalty": 0.5,
                "early_stopping": True,
            },
        ),
        ({"num_beams": 1}, {}),
        ({"num_beams": None}, {}),
        ({"num_beams": 1, "do_sample": True}, {"do_sample": True, "num_return_sequences": 2}),
        (
            {"num_beam_groups": 2, "diversity_penalty": 2.0, "early_stopping": None},
            {**GROUPS, "num_return_sequences": 2, "length_penalty": 0.5, "diversity_penalty": 2.0},
        ),
    ],
)
def test_defaults_of_a_model(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """Details of beams are left out of a call without; given ones would be an error."""
    params = GenerationParams.create(given, defaults_from_generation_config(FILE))
    assert params == GenerationParams(**expected)


def test_a_conflict_names_the_default() -> None:
    with raises(ParameterError, parameters={"num_beams": 4, "overflow": "slide"}):
        GenerationParams.create({"overflow": "slide"}, {"num_beams": 4})
