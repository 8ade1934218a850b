"""What generation_config.json contributes, and what of it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import GenerationParams, defaults_from_generation_config

GPT2 = {
    "_from_model_config": True,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    "transformers_version": "4.26.0.dev0",
}


def test_gpt2() -> None:
    assert defaults_from_generation_config(GPT2) == {"eos_token_id": 50256}


def test_parameters_become_defaults() -> None:
    config = {**GPT2, "do_sample": True, "temperature": 0.7, "max_new_tokens": 64, "top_k": None}
    defaults = defaults_from_generation_config(config)
    params = GenerationParams.create({}, defaults)
    assert params == GenerationParams(
        eos_token_id=50256, do_sample=True, temperature=0.7, max_new_tokens=64
    )


@pytest.mark.parametrize(
    ("config", "defaults"),
    [
        ({"max_length": 20}, {}),
        ({"max_length": 50}, {"max_length": 50}),
        ({"max_length": 50, "max_new_tokens": 7}, {"max_new_tokens": 7}),
        ({"min_length": 5, "min_new_tokens": 7}, {"min_new_tokens": 7}),
        ({"min_length": 5, "min_new_tokens": None}, {"min_length": 5}),
        ({"dola_layers": None, "encoder_repetition_penalty": 1.0}, {}),
    ],
)
def test_lengths_and_neutral_values(config: dict[str, Any], defaults: dict[str, Any]) -> None:
    assert defaults_from_generation_config(config) == defaults


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("encoder_no_repeat_ngram_size", 3, "0"),
        ("encoder_repetition_penalty", 1.5, "1"),
        ("sequence_bias", [[[5], 1.0]], "null"),
        ("exponential_decay_length_penalty", [5, 1.1], "null"),
        ("watermarking_config", {"bias": 2.5}, "null"),
        ("token_healing", True, "False"),
        ("remove_invalid_values", True, "False"),
        ("constraints", [], "null"),
    ],
)
def test_other_strategies_are_refused_by_name(key: str, value: object, expected: str) -> None:
    with pytest.raises(ParameterError, match=f"{key}=.*expected {expected}; remove it from"):
        defaults_from_generation_config({**GPT2, key: value})


@pytest.mark.parametrize("key", ["temprature", "prefix_allowed_tokens_fn", "stop_fn", "my_own_key"])
def test_unknown_keys_are_refused(key: str) -> None:
    with pytest.raises(ParameterError, match=f"unknown key '{key}'"):
        defaults_from_generation_config({**GPT2, key: 1})
