"""The scores of all that can follow: transformers' processors on log-probabilities, in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2onnx.samplers import GenerationParams, Hypothesis, log_softmax
from gpt2onnx.samplers.beam.scores import BeamScores

processors = pytest.importorskip("transformers.generation.logits_process")
torch = pytest.importorskip("torch")

PROMPT = np.array([1, 2, 3])
NOTHING = np.empty(0, np.int64)
seeds = st.integers(0, 10**6)


def logprobs(seed: int, vocab: int = 30) -> np.ndarray:
    return log_softmax(np.random.default_rng(seed).normal(0, 2, (1, vocab)).astype(np.float32))


def ours(values: np.ndarray, taken: np.ndarray = NOTHING, **parameters: Any) -> np.ndarray:
    params = GenerationParams(num_beams=4, **parameters)
    beam = Hypothesis(np.append(PROMPT, 5), -1.5, np.zeros(1, np.float32), np.zeros(1, int), ())
    return BeamScores(params, len(PROMPT), 0)([beam], values, taken)[0]


def theirs(values: np.ndarray, *steps: Any) -> np.ndarray:
    ids, result = torch.tensor([[*PROMPT, 5]]), torch.from_numpy(values)
    for step in steps:
        result = step(ids, result)
    return (result[0] - 1.5).numpy()


@given(seeds)
def test_penalties_see_log_probabilities_and_the_sum_comes_last(seed: int) -> None:
    values = logprobs(seed)
    expected = theirs(
        values,
        processors.RepetitionPenaltyLogitsProcessor(1.5),
        processors.SuppressTokensLogitsProcessor([4, 9]),
    )
    found = ours(values, repetition_penalty=1.5, suppress_tokens=[4, 9])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


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


@given(seeds, st.sampled_from([(), (4,), (4, 6, 8)]), st.floats(0.01, 0.99))
def test_warpers_keep_a_token_for_every_end_token_and_one_more(
    seed: int, eos: tuple[int, ...], p: float
) -> None:
    keep = max(2, 1 + len(eos))
    values = logprobs(seed)
    for parameters, warper in (
        ({"top_k": 1}, processors.TopKLogitsWarper(1, min_tokens_to_keep=keep)),
        ({"top_p": p}, processors.TopPLogitsWarper(p, min_tokens_to_keep=keep)),
        ({"min_p": p}, processors.MinPLogitsWarper(p, min_tokens_to_keep=keep)),
        ({"epsilon_cutoff": p}, processors.EpsilonLogitsWarper(p, min_tokens_to_keep=keep)),
        ({"eta_cutoff": p}, processors.EtaLogitsWarper(p, min_tokens_to_keep=keep)),
    ):
        steps = [processors.TemperatureLogitsWarper(0.5), warper]
        found = ours(
            values, do_sample=True, eos_token_id=eos, temperature=0.5, **{"top_k": 0, **parameters}
        )
        np.testing.assert_allclose(found, theirs(values, *steps), rtol=1e-5)


def test_typical_p_keeps_as_many() -> None:
    """Which ones differs: transformers' next most typical, here the most probable."""
    found = ours(logprobs(1), do_sample=True, top_k=0, typical_p=0.01, eos_token_id=[4, 5])
    assert np.count_nonzero(found > -np.inf) == 3


def test_a_hypothesis_that_cannot_go_on_is_no_error() -> None:
    values = np.full((1, 30), -np.inf, np.float32)
    assert (ours(values, do_sample=True) == -np.inf).all()
