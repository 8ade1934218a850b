"""Guidance's formula against transformers' own, and what its parameters go with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.decoding.guidance import guidance_of
from gpt2onnx.samplers import GenerationParams, defaults_from_generation_config, log_softmax
from gpt2onnx.samplers.guidance import guide
from gpt2onnx.samplers.params.rules import DRAFT_EXCLUDES
from tests.raising import raises

RNG = np.random.default_rng(0)
CONDITIONAL, UNCONDITIONAL = RNG.normal(0, 4, (2, 3, 50)).astype(np.float32)


def test_a_scale_of_0_is_without_the_prompt_and_1_is_with_it() -> None:
    np.testing.assert_array_equal(guide(CONDITIONAL, UNCONDITIONAL, 0), log_softmax(UNCONDITIONAL))
    np.testing.assert_allclose(
        guide(CONDITIONAL, UNCONDITIONAL, 1), log_softmax(CONDITIONAL), rtol=1e-6, atol=1e-5
    )


def test_on_and_off() -> None:
    assert not GenerationParams().is_on("guidance_scale")
    assert not GenerationParams(guidance_scale=1, num_beams=2).is_on("guidance_scale")
    assert GenerationParams(guidance_scale=np.float32(1.5)).is_on("guidance_scale")
    assert GenerationParams(guidance_scale=0).is_on("guidance_scale")


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"guidance_scale": float("nan")}, ("guidance_scale",)),
        ({"guidance_scale": 1e30}, ("guidance_scale",)),
        (
            {"guidance_scale": 2, "prompt_lookup_num_tokens": 3},
            ("guidance_scale", "prompt_lookup_num_tokens"),
        ),
    ],
)
def test_refuses(parameters: dict[str, Any], named: tuple[str, ...]) -> None:
    with raises(ParameterError, named=named):
        GenerationParams(**parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"guidance_scale": "2"}, "guidance_scale='2': expected a number within"),
        (
            {"guidance_scale": 2, "num_beams": 3},
            "num_beams=3 with guidance_scale=2.0: beams are searched by the",
        ),
        (
            {"guidance_scale": 2, "overflow": "slide"},
            "guidance_scale=2.0 with overflow='slide': both contexts end wi",
        ),
    ],
)
def test_says_why(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GenerationParams(**parameters)


def test_refuses_a_draft() -> None:
    GenerationParams(guidance_scale=1).check_beside(DRAFT_EXCLUDES)
    with pytest.raises(ParameterError, match=r"draft with guidance_scale=2\.0: drafts are judged"):
        GenerationParams(guidance_scale=2).check_beside(DRAFT_EXCLUDES)


@pytest.mark.parametrize("parameters", [{}, {"guidance_scale": 1}])
def test_a_negative_prompt_needs_guidance(parameters: dict[str, Any]) -> None:
    said = "negative_prompt has no effect without guidance_scale other than 1: set that, or leave"
    with pytest.raises(ParameterError, match=said):
        guidance_of(GenerationParams(**parameters), np.array([1]))


def test_defaults_of_a_generation_config() -> None:
    assert defaults_from_generation_config({"guidance_scale": 1.5}) == {"guidance_scale": 1.5}
    lookup = {"prompt_lookup_num_tokens": 10}
    params = GenerationParams.create({"guidance_scale": 2}, lookup)
    assert params.prompt_lookup_num_tokens is None
    with raises(ParameterError, parameters={"num_beams": 2, "guidance_scale": 2.0}):
        GenerationParams.create({"num_beams": 2}, {"guidance_scale": 2})
