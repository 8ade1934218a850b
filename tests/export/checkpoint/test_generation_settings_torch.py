"""What transformers generates with the same settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from gpt2onnx.samplers.params.generation_config import (
    _OF_TRANSFORMERS,
    _UNSET_IN_CONFIG,
    NEUTRAL,
    WITHOUT_EFFECT,
    settings_in_force,
)
from tests.export.checkpoint.test_generation_settings import BEAMS, TASK

MADE = {"_from_model_config": True, "bos_token_id": 256, "eos_token_id": 256}


@pytest.mark.parametrize(
    ("config", "generation_config"),
    [
        ({}, None),
        (TASK, None),
        ({"repetition_penalty": 1.5, "no_repeat_ngram_size": 3, "seed": 4, "top_a": 0.5}, None),
        ({**BEAMS, "suppress_tokens": [5], "bad_words_ids": [[7, 8]]}, None),
        ({"do_sample": True, "temperature": 0.5, "top_k": 7, "top_p": 0.9, "min_length": 4}, None),
        ({"guidance_scale": 2.0, "max_length": 20, "num_beams": None}, None),
        ({"forced_eos_token_id": 5, "begin_suppress_tokens": [3], "typical_p": 0.5}, None),
        ({"repetition_penalty": 1.5}, {"eos_token_id": 256}),
        ({"repetition_penalty": 1.5}, {}),
        ({"repetition_penalty": 1.5}, MADE),
        ({"repetition_penalty": 1.5}, {**MADE, "do_sample": True, "top_k": 5}),
        ({"repetition_penalty": 1.0, "guidance_scale": 2.0}, MADE),
        ({}, {**MADE, "do_sample": True, "top_k": 5}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_settings_are_those_that_transformers_goes_by(
    checkpoint_with: Callable[..., Path], config: Any, generation_config: Any
) -> None:
    from transformers import GPT2LMHeadModel

    folder = checkpoint_with(config, generation_config)
    model = GPT2LMHeadModel.from_pretrained(folder)
    expected = model._prepare_generation_config(None, None)[0].to_dict()
    whole = json.loads((folder / "config.json").read_text())
    settings, _ = settings_in_force(whole, generation_config)
    unset = GenerationConfig().to_dict()
    for key in _OF_TRANSFORMERS - {"eos_token_id"}:
        found = settings.get(key)
        assert (unset[key] if found is None else found) == expected[key], key


def test_the_names_are_transformers(source: Path) -> None:
    known = GenerationConfig().to_dict().keys()
    assert known <= _OF_TRANSFORMERS | WITHOUT_EFFECT | NEUTRAL.keys()
    assert known >= _OF_TRANSFORMERS
    from transformers import GPT2Config

    assert GPT2Config._get_global_generation_defaults() == _UNSET_IN_CONFIG
