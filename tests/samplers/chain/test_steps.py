"""The whole chain against transformers: its processors in its order, and generate()."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import GenerationParams, Sampler, generator
from tests.raising import raises

VOCAB = 200
EOS = 7


def allow_odd(sequence_index: int, history: Any) -> list[int]:
    return [EOS, *range(1, VOCAB, 2)]


def row(seed: int, vocab: int = VOCAB) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, vocab).astype(np.float32)


PENALTIES = {
    "logit_bias": {3: 2.5, 11: -4.0, EOS: 5.0},
    "repetition_penalty": 1.4,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[5], [3, 4], [1, 2, 9]],
    "suppress_tokens": [13, 15],
    "begin_suppress_tokens": [17, 19],
}
SAMPLING = {
    "do_sample": True,
    "temperature": 1.7,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.01,
    "typical_p": 0.9,
    "epsilon_cutoff": 0.004,
    "eta_cutoff": 0.02,
}
CHAINS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "sampling, all defaults": {"do_sample": True},
    "penalties": PENALTIES,
    "ends": {"min_new_tokens": 2, "forced_eos_token_id": [EOS, 9]},
    "warpers": SAMPLING,
    "warpers without top_k": {**SAMPLING, "top_k": 0},
    "warpers that are off": {
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "typical_p": 1.0,
        "epsilon_cutoff": 0.0,
        "eta_cutoff": 0.0,
    },
    "allowed": {"prefix_allowed_tokens_fn": allow_odd, "bad_words_ids": [[1]]},
    "everything": {
        **PENALTIES,
        **SAMPLING,
        "min_new_tokens": 2,
        "forced_eos_token_id": 9,
        "prefix_allowed_tokens_fn": allow_odd,
    },
}


def test_frequency_and_presence_stand_behind_repetition_and_before_constraints() -> None:
    params = GenerationParams(
        logit_bias={2: 1.0},
        repetition_penalty=2.0,
        frequency_penalty=0.5,
        presence_penalty=0.25,
        suppress_tokens=[0],
    )
    logits = np.array([9, 4, 3, -2], np.float32)
    sampler = Sampler(params, 1, 0, generator(0, 0))
    candidates = sampler.candidates(np.array([1, 2, 2, 3]), logits)
    assert candidates.ids.tolist() == [1, 2, 3]
    # Token 1 stands in the prompt alone; 2 was generated twice, 3 once.
    assert candidates.logits.tolist() == [4 / 2, (3 + 1) / 2 - 2 * 0.5 - 0.25, -2 * 2 - 0.5 - 0.25]


def test_lengths_may_count_the_prompt() -> None:
    params = GenerationParams(
        max_length=6, min_length=5, eos_token_id=1, forced_eos_token_id=1, logit_bias={1: 50.0}
    )
    sampler = Sampler(params, 3, 0, generator(0, 0))
    assert sampler.params.max_new_tokens == 3
    logits = np.array([1, 0, 2], np.float32)
    tokens = [sampler(np.zeros(n, np.int64), logits) for n in (3, 4, 5)]
    assert tokens == [2, 2, 1]


def test_sequence_depends_on_seed_and_index_alone() -> None:
    params = GenerationParams(do_sample=True, top_k=0, seed=5)

    def draw(index: int) -> list[int]:
        sampler = Sampler(params, 1, index, generator(params.seed, index))
        return [sampler(np.array([0]), row(step)) for step in range(20)]

    first = draw(0)
    assert draw(1) != first
    assert draw(0) == first


def test_greedy_asks_for_no_randomness() -> None:
    rng = generator(0, 0)
    Sampler(GenerationParams(), 1, 0, rng)(np.array([0]), row(0))
    assert rng.random() == generator(0, 0).random()


def test_sampling_is_greedy_where_one_candidate_is_left() -> None:
    sampler = Sampler(GenerationParams(do_sample=True, top_p=0.0), 1, 0, generator(None, 0))
    assert all(sampler(np.array([0]), row(seed)) == row(seed).argmax() for seed in range(5))


def test_allowed_tokens_are_told_the_sequence() -> None:
    def allowed(sequence_index: int, history: np.ndarray) -> list[int]:
        return [sequence_index]

    params = GenerationParams(prefix_allowed_tokens_fn=allowed)
    tokens = [Sampler(params, 1, i, generator(0, i))(np.array([0]), row(0)) for i in range(3)]
    assert tokens == [0, 1, 2]


def test_constraints_that_leave_nothing_are_an_error() -> None:
    params = GenerationParams(
        prefix_allowed_tokens_fn=lambda index, history: [3], suppress_tokens=[3]
    )
    with raises(
        ParameterError,
        named=(
            "suppress_tokens",
            "bad_words_ids",
            "no_repeat_ngram_size",
            "prefix_allowed_tokens_fn",
        ),
    ):
        Sampler(params, 1, 0, generator(0, 0))(np.array([0]), row(0))


def test_tokens_beyond_the_vocabulary_are_an_error() -> None:
    sampler = Sampler(GenerationParams(suppress_tokens=[VOCAB]), 1, 0, generator(0, 0))
    with raises(ParameterError, named=("suppress_tokens",)):
        sampler(np.array([0]), row(0))


def test_parameters_that_a_prompt_makes_impossible_are_an_error() -> None:
    with raises(ParameterError, parameters={"max_length": 4}):
        Sampler(GenerationParams(max_length=4), 4, 0, generator(0, 0))


def test_never_writes_to_history_or_logits() -> None:
    given = {**CHAINS["everything"], "frequency_penalty": 1.0}
    history, logits = np.array([1, 2, 3, 4, 5]), row(0)
    history.setflags(write=False)
    logits.setflags(write=False)
    params = GenerationParams(**given, max_new_tokens=6, eos_token_id=EOS)
    Sampler(params, 4, 0, generator(0, 0))(history, logits)
