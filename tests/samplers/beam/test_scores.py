"""The scores of all that can follow: transformers' processors on log-probabilities, in order."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpt2onnx.samplers import GenerationParams, Hypothesis, log_softmax
from gpt2onnx.samplers.beam.scores import BeamScores

PROMPT = np.array([1, 2, 3])
NOTHING = np.empty(0, np.int64)


def logprobs(seed: int, vocab: int = 30) -> np.ndarray:
    return log_softmax(np.random.default_rng(seed).normal(0, 2, (1, vocab)).astype(np.float32))


def ours(values: np.ndarray, taken: np.ndarray = NOTHING, **parameters: Any) -> np.ndarray:
    params = GenerationParams(num_beams=4, **parameters)
    beam = Hypothesis(np.append(PROMPT, 5), -1.5, np.zeros(1, np.float32), np.zeros(1, int), ())
    return BeamScores(params, len(PROMPT), 0)([beam], values, taken)[0]


def test_diversity_comes_before_the_repetition_penalty() -> None:
    values = logprobs(0)
    scores = ours(
        values,
        np.array([5, 6, 6]),
        num_beam_groups=2,
        diversity_penalty=0.5,
        repetition_penalty=2.0,
    )
    difference = scores - ours(values, repetition_penalty=2.0)
    np.testing.assert_allclose(difference[[5, 6, 7]], [-0.5 * 2, -0.5 * 2, 0], atol=1e-5)


def test_warpers_come_after_penalties() -> None:
    values = logprobs(0)
    best = int(values.argmax())
    found = ours(values, do_sample=True, top_k=3, suppress_tokens=[best])
    expected = [token for token in np.argsort(-values[0]) if token != best][:3]
    assert np.flatnonzero(found > -np.inf).tolist() == sorted(expected)


def test_typical_p_keeps_as_many() -> None:
    """Which ones differs: transformers' next most typical, here the most probable."""
    found = ours(logprobs(1), do_sample=True, top_k=0, typical_p=0.01, eos_token_id=[4, 5])
    assert np.count_nonzero(found > -np.inf) == 3


def test_a_hypothesis_that_cannot_go_on_is_no_error() -> None:
    values = np.full((1, 30), -np.inf, np.float32)
    assert (ours(values, do_sample=True) == -np.inf).all()
