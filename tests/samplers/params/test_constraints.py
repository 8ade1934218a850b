"""Constraints among the parameters: what is kept, and what they don't go with."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import GenerationParams, Sampler
from tests.raising import raises

SCHEMA = {"type": "object", "properties": {"b": {"type": "null"}, "a": {"const": "é"}}}


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("regex", "a+", "a+"),
        ("grammar", 'start: "a"', 'start: "a"'),
        ("choices", ["yes", "no"], ("yes", "no")),
        ("choices", np.array(["yes"]), ("yes",)),
        ("json_schema", {}, "{}"),
    ],
)
def test_keeps_a_value_in_one_form(name: str, value: object, kept: object) -> None:
    assert GenerationParams(**{name: value}).constraint == (name, kept)


@pytest.mark.parametrize("given", [SCHEMA, OrderedDict(SCHEMA), json.dumps(SCHEMA)])
def test_keeps_a_schema_as_text_in_its_order(given: Any) -> None:
    kept = GenerationParams(json_schema=given).json_schema
    assert isinstance(kept, str)
    assert json.loads(kept) == SCHEMA
    assert list(json.loads(kept)["properties"]) == ["b", "a"]


def test_without_a_constraint_there_is_none() -> None:
    assert GenerationParams().constraint is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("regex", "", "expected a non-empty string"),
        ("regex", b"a", "expected a non-empty string"),
        ("regex", "\ud800", "expected a non-empty string of Unicode"),
        ("grammar", 5, "expected a non-empty string"),
        ("choices", [], "expected a list of at least one string"),
        ("choices", "yes", "expected a list of at least one string"),
        ("choices", ["yes", ""], "none of them empty"),
        ("choices", ["yes", 1], "expected a list of at least one string"),
        ("json_schema", "{", "expected a JSON object: Expecting property name"),
        ("json_schema", "[1]", "expected a JSON object, as a dict or as its text"),
        ("json_schema", True, "expected a JSON object, as a dict or as its text"),
        ("json_schema", {"const": float("nan")}, "expected a JSON object: Out of range"),
        ("json_schema", {"const": {1}}, "expected a JSON object: Object of type set"),
    ],
)
def test_refuses_what_is_none(name: str, value: object, expected: str) -> None:
    with pytest.raises(ParameterError, match=f"^{name}=.*{expected}") as raised:
        GenerationParams(**{name: value})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"min_length": 1, "eos_token_id": 0}, ("regex", "min_length")),
        ({"forced_eos_token_id": 0}, ("regex", "forced_eos_token_id")),
    ],
)
def test_refuses_what_has_no_meaning_beside_one(
    given: dict[str, Any], named: tuple[str, ...]
) -> None:
    with raises(ParameterError, named=named):
        GenerationParams(regex="a", **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"choices": ["b"]}, r"regex='a' with choices=\('b',\): a text is held to one of them; "),
        ({"num_beams": 2}, "num_beams=2 with regex='a': beams keep no constraint; leave on"),
        ({"stop_strings": "x"}, "stop_strings=.*: they would cut the text short"),
        ({"min_new_tokens": 1, "eos_token_id": 0}, "min_new_tokens=1: the constraint alone says"),
        ({"forced_bos_token_id": 0}, "forced_bos_token_id=0: the constraint alone says"),
    ],
)
def test_says_why(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GenerationParams(regex="a", **given)


def test_a_minimum_of_none_has_no_effect() -> None:
    assert GenerationParams(regex="a", min_new_tokens=0, eos_token_id=0).regex == "a"


def sampler(constraint: Any, **given: Any) -> Sampler:
    return Sampler(GenerationParams(**given), 1, 0, np.random.default_rng(0), constraint)


def test_a_strategy_without_a_tokenizer_passes_no_constraint_over() -> None:
    with pytest.raises(ParameterError, match=r"choices=.* needs the model's tokenizer"):
        sampler(None, choices=["a"])


def test_what_it_forbids_stays_forbidden() -> None:
    def only_odd(history: Any, logits: Any) -> Any:
        return np.where(np.arange(len(logits)) % 2, logits, -np.inf).astype(np.float32)

    chosen = sampler(only_odd, regex="a", logit_bias={2: 1e9, 3: 5.0})
    assert chosen(np.array([0]), np.zeros(6, np.float32)) == 3
    assert chosen.candidates(np.array([0]), np.zeros(6, np.float32)).ids.tolist() == [1, 3, 5]
