"""Contrastive search's choice against the paper's formula, and what its parameters go with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import GenerationParams, defaults_from_generation_config
from gpt2onnx.samplers.contrastive import contrast, unit
from gpt2onnx.samplers.params.rules import DRAFT_EXCLUDES
from tests.raising import raises

ON = {"penalty_alpha": 0.6, "top_k": 4}


def test_units() -> None:
    vectors = np.array([[3, 4], [0, 0], [-1e-3, 0]], np.float32)
    scaled = unit(vectors)
    np.testing.assert_allclose(scaled, [[0.6, 0.8], [0, 0], [-1, 0]], rtol=1e-6)
    assert scaled.dtype == np.float32


def test_by_hand() -> None:
    """Similarities to the nearest of the context: 1, 0.6, 0."""
    candidates = np.array([[1, 0], [0.6, 0.8], [0, -1]], np.float32)
    context = np.array([[1, 0], [-1, 0]], np.float32)
    probabilities = np.array([0.6, 0.3, 0.1], np.float32)
    # scores: 0.6 - 1.6 a; 0.3 - 0.9 a; 0.1 - 0.1 a
    chosen = [contrast(probabilities, candidates, context, a) for a in (0.1, 0.4, 0.45, 0.9)]
    assert chosen == [0, 2, 2, 2]
    # 0.6 - 1.6 a and 0.35 - 0.95 a cross at 0.385, 0.35 - 0.95 a and 0.05 - 0.05 a at 1 / 3
    probabilities = np.array([0.6, 0.35, 0.05], np.float32)
    assert contrast(probabilities, candidates[[0, 1, 1]], context, 0.5) == 1
    assert contrast(probabilities[[1, 1]], candidates[[0, 0]], context, 0.5) == 0  # the first


def test_on_and_off() -> None:
    assert GenerationParams(**ON).top_k == 4
    assert GenerationParams(penalty_alpha=0, num_beams=2).penalty_alpha == 0


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"penalty_alpha": 1.1}, ("penalty_alpha",)),
        ({**ON, "top_k": 0}, ("penalty_alpha", "top_k")),
        ({**ON, "penalty_alpha": 0}, ("top_k", "penalty_alpha")),
        ({**ON, "temperature": 0.7}, ("penalty_alpha", "temperature")),
        ({**ON, "num_return_sequences": 2}, ("penalty_alpha", "num_return_sequences")),
        ({**ON, "num_beams": 2}, ("num_beams", "penalty_alpha")),
    ],
)
def test_refuses(parameters: dict[str, Any], named: tuple[str, ...]) -> None:
    with raises(ParameterError, named=named):
        GenerationParams(**parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"penalty_alpha": -0.1}, "penalty_alpha=-0.1: expected a number from 0 .off. to 1"),
        ({**ON, "top_k": 1}, "penalty_alpha=0.6 with top_k=1: expected the number of candidates"),
        (
            {**ON, "do_sample": True},
            "do_sample=True with penalty_alpha=0.6: contrastive search draw",
        ),
        (
            {**ON, "return_alternatives": True, "num_return_sequences": 2},
            "penalty_alpha=0.6 with return_alternatives=True: contrastive search follows one text",
        ),
        (
            {**ON, "overflow": "slide"},
            "penalty_alpha=0.6 with overflow='slide': contrastive search en",
        ),
        ({**ON, "guidance_scale": 2}, "penalty_alpha=0.6 with guidance_scale=2.0: each chooses"),
        (
            {**ON, "prompt_lookup_num_tokens": 3},
            "penalty_alpha=0.6 with prompt_lookup_num_tokens=3: contrastive",
        ),
    ],
)
def test_says_why(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GenerationParams(**parameters)


def test_refuses_a_draft() -> None:
    with raises(ParameterError, parameters={"penalty_alpha": 0.6}):
        GenerationParams(**ON).check_beside(DRAFT_EXCLUDES)


def test_defaults_of_a_generation_config() -> None:
    assert defaults_from_generation_config(ON) == ON
    params = GenerationParams.create({}, ON)
    assert (params.penalty_alpha, params.top_k) == (0.6, 4)
    for given in ({"do_sample": True}, {"num_beams": 2}):
        params = GenerationParams.create(given, ON)
        assert params.penalty_alpha is None
        assert params.top_k == (4 if params.do_sample else None)
    params = GenerationParams.create(ON, {"prompt_lookup_num_tokens": 3, "temperature": 0.7})
    assert (params.prompt_lookup_num_tokens, params.temperature) == (None, None)
    with raises(ParameterError, parameters={"do_sample": True, "penalty_alpha": 0.6}):
        GenerationParams.create(ON, {"do_sample": True})
