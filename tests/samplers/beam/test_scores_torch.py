"""Scores of beams beside transformers' processors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation import logits_process

from tests.samplers.beam.test_scores import PROMPT, logprobs, ours

seeds = st.integers(0, 10**6)


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
        logits_process.RepetitionPenaltyLogitsProcessor(1.5),
        logits_process.SuppressTokensLogitsProcessor([4, 9]),
    )
    found = ours(values, repetition_penalty=1.5, suppress_tokens=[4, 9])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@given(seeds, st.sampled_from([(), (4,), (4, 6, 8)]), st.floats(0.01, 0.99))
def test_warpers_keep_a_token_for_every_end_token_and_one_more(
    seed: int, eos: tuple[int, ...], p: float
) -> None:
    keep = max(2, 1 + len(eos))
    values = logprobs(seed)
    for parameters, warper in (
        ({"top_k": 1}, logits_process.TopKLogitsWarper(1, min_tokens_to_keep=keep)),
        ({"top_p": p}, logits_process.TopPLogitsWarper(p, min_tokens_to_keep=keep)),
        ({"min_p": p}, logits_process.MinPLogitsWarper(p, min_tokens_to_keep=keep)),
        ({"epsilon_cutoff": p}, logits_process.EpsilonLogitsWarper(p, min_tokens_to_keep=keep)),
        ({"eta_cutoff": p}, logits_process.EtaLogitsWarper(p, min_tokens_to_keep=keep)),
    ):
        steps = [logits_process.TemperatureLogitsWarper(0.5), warper]
        found = ours(
            values, do_sample=True, eos_token_id=eos, temperature=0.5, **{"top_k": 0, **parameters}
        )
        np.testing.assert_allclose(found, theirs(values, *steps), rtol=1e-5)
