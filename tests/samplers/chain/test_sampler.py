"""What a sampler says of its choice, and the numbers that it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import Candidates, GenerationParams, Sampler, generator

LOGITS = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
HISTORY = np.array([0])


def sampler(**given: Any) -> Sampler:
    return Sampler(GenerationParams(**given), 1, 0, generator(0, 0))


def test_untouched_logits_have_one_logprob() -> None:
    choice = sampler().sample(HISTORY, LOGITS)
    assert choice.token == 0
    assert choice.logprob == choice.processed_logprob == pytest.approx(np.log(0.4), abs=1e-6)


@pytest.mark.parametrize(
    ("given", "token", "processed"),
    [
        ({"suppress_tokens": [0]}, 1, 0.3 / 0.6),
        ({"logit_bias": {3: np.log(8.0)}}, 3, 0.8 / 1.7),
        ({"forced_bos_token_id": 2}, 2, 1.0),
        ({"do_sample": True, "top_k": 1}, 0, 1.0),
        ({"do_sample": True, "top_k": 1, "logit_bias": {2: 5.0}}, 2, 1.0),
    ],
)
def test_logprobs_before_and_after(given: dict[str, Any], token: int, processed: float) -> None:
    choice = sampler(**given).sample(HISTORY, LOGITS)
    assert choice.token == token
    assert choice.logprob == pytest.approx(float(LOGITS[token]), abs=1e-6)
    assert choice.processed_logprob == pytest.approx(np.log(processed), abs=1e-6)


@pytest.mark.parametrize(
    ("given", "distribution"),
    [
        ({"top_k": 0}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 3}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_k": 0, "temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"top_k": 2, "temperature": 0.5}, [16 / 25, 9 / 25, 0, 0]),
        ({"top_k": 0, "xtc_probability": 1.0, "xtc_threshold": 0.25}, [0, 0.5, 1 / 3, 1 / 6]),
    ],
)
def test_processed_logprobs_are_those_of_the_draw(
    given: dict[str, Any], distribution: list[float]
) -> None:
    drawing, seen = sampler(do_sample=True, **given), set()
    for _ in range(200):
        choice = drawing.sample(HISTORY, LOGITS)
        seen.add(choice.token)
        assert choice.logprob == pytest.approx(float(LOGITS[choice.token]), abs=1e-6)
        assert np.exp(choice.processed_logprob) == pytest.approx(distribution[choice.token])
    assert seen == set(np.flatnonzero(distribution))


def test_call_gives_the_token_of_choose() -> None:
    called, chosen = (sampler(do_sample=True, temperature=2.0) for _ in range(2))
    for _ in range(20):
        assert called(HISTORY, LOGITS) == chosen.sample(HISTORY, LOGITS).token


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ({}, 0),
        ({"do_sample": True}, 1),
        ({"do_sample": True, "top_k": 1}, 1),
        ({"do_sample": True, "mirostat_mode": 2}, 1),
        ({"do_sample": True, "xtc_probability": 0.5}, 2),
    ],
)
def test_takes_a_fixed_count_of_numbers_a_token(given: dict[str, Any], numbers: int) -> None:
    rng, same = generator(7, 0), generator(7, 0)
    drawing = Sampler(GenerationParams(**given), 1, 0, rng)
    for step in range(5):
        drawing(HISTORY, np.random.default_rng(step).normal(0, 3, 50).astype(np.float32))
        same.random(numbers)
    assert rng.random() == same.random()


def test_candidates_are_what_the_choice_is_made_of() -> None:
    given = {"do_sample": True, "top_n_sigma": 1.0, "tfs_z": 0.9, "top_a": 0.1, "top_k": 0}
    logits = np.random.default_rng(0).normal(0, 3, 500).astype(np.float32)
    drawing = sampler(**given)
    candidates = drawing.candidates(HISTORY, logits)
    assert isinstance(candidates, Candidates)
    assert 1 <= len(candidates.ids) < 20
    choice = drawing.sample(HISTORY, logits)
    index = candidates.ids.tolist().index(choice.token)
    assert np.exp(choice.processed_logprob) == pytest.approx(candidates.probabilities()[index])


@pytest.mark.parametrize(
    "given",
    [{}, {"xtc_probability": 0.5}, {"mirostat_mode": 2, "mirostat_tau": 2.0, "mirostat_eta": 0.5}],
)
def test_a_fork_goes_on_alike_and_by_itself(given: dict[str, Any]) -> None:
    one = sampler(do_sample=True, **given)
    twin = sampler(do_sample=True, **given)
    for _ in range(9):
        one(HISTORY, LOGITS), twin(HISTORY, LOGITS)
    fork = one.fork()
    drawn = [fork.sample(HISTORY, LOGITS)[:3] for _ in range(30)]
    assert [one.sample(HISTORY, LOGITS)[:3] for _ in range(30)] == drawn
    assert [twin.sample(HISTORY, LOGITS)[:3] for _ in range(30)] == drawn


def test_alternatives_are_what_penalties_leave() -> None:
    chooses = sampler(do_sample=True, top_k=1, temperature=0.1, suppress_tokens=[1])
    found = [chooses.alternative(HISTORY, LOGITS, rank) for rank in range(3)]
    assert [choice.token for choice in found] == [0, 2, 3]
    probabilities = np.exp([choice.processed_logprob for choice in found])
    assert probabilities == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert np.exp(found[1].logprob) == pytest.approx(0.2)
    with pytest.raises(ParameterError, match="only 3 tokens may come first; lower num_return_seq"):
        chooses.alternative(HISTORY, LOGITS, 3)
