"""The whole chain against transformers: its processors in its order, and generate()."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import GenerationParams, Sampler, generator

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCAB = 200
EOS = 7
# The 0.999 quantile of chi-square with 9 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.4).
CHI_SQUARE_999 = 27.877


def allow_odd(sequence_index: int, history: Any) -> list[int]:
    return [EOS, *range(1, VOCAB, 2)]


@lru_cache(maxsize=1)
def tiny_gpt2() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=16, vocab_size=VOCAB, initializer_range=0.5, n_positions=64
    )
    return transformers.GPT2LMHeadModel(config).eval()


def processors(given: dict[str, Any], prompt_length: int, max_new_tokens: int) -> Any:
    """What transformers makes of the same parameters."""
    given = dict(given)
    allowed = given.pop("prefix_allowed_tokens_fn", None)
    if "logit_bias" in given:
        given["sequence_bias"] = {(k,): v for k, v in given.pop("logit_bias").items()}
    config = transformers.GenerationConfig(
        **given, max_length=prompt_length + max_new_tokens, eos_token_id=EOS, pad_token_id=EOS
    )
    model = tiny_gpt2()
    model._prepare_special_tokens(config, device="cpu")
    return model._get_logits_processor(
        config,
        input_ids_seq_length=prompt_length,
        prefix_allowed_tokens_fn=allowed,
        device="cpu",
    )


def dense(sampler: Sampler, history: np.ndarray, logits: np.ndarray) -> np.ndarray:
    candidates = sampler.candidates(history, logits)
    row = np.full(len(logits), -np.inf, np.float32)
    row[candidates.ids] = candidates.logits
    return row


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


@pytest.mark.parametrize("generated", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("given", CHAINS.values(), ids=CHAINS)
def test_gives_the_logits_that_transformers_gives(given: dict[str, Any], generated: int) -> None:
    for seed in range(4):
        history = np.random.default_rng(seed).integers(0, 6, 4 + generated)
        logits = row(seed)
        expected = processors(given, 4, 6)(
            torch.from_numpy(history)[None], torch.from_numpy(logits)[None]
        )[0].numpy()
        params = GenerationParams(**given, max_new_tokens=6, eos_token_id=EOS)
        actual = dense(Sampler(params, 4, 0, generator(0, 0)), history, logits)
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("generated", [0, 1, 2])
def test_forced_first_token_comes_before_the_beginning(generated: int) -> None:
    given = {"forced_bos_token_id": 3, "begin_suppress_tokens": [4]}
    history, logits = np.arange(1 + generated), row(0)
    expected = processors(given, 1, 6)(
        torch.from_numpy(history)[None], torch.from_numpy(logits)[None]
    )[0].numpy()
    params = GenerationParams(**given, max_new_tokens=6)
    actual = dense(Sampler(params, 1, 0, generator(0, 0)), history, logits)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 2},
        {"bad_words_ids": [[5], [3, 4]], "min_length": 9},
        {"min_new_tokens": 6, "suppress_tokens": list(range(0, VOCAB, 2))},
        {"forced_eos_token_id": EOS, "repetition_penalty": 0.8},
        {"prefix_allowed_tokens_fn": allow_odd, "no_repeat_ngram_size": 1},
    ],
)
def test_greedy_text_is_that_of_generate(given: dict[str, Any]) -> None:
    model, prompt = tiny_gpt2(), [1, 2, 3]
    expected = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, 3, dtype=torch.long),
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=EOS,
        pad_token_id=EOS,
        **given,
    )[0].tolist()
    params = GenerationParams(**given, max_new_tokens=12, eos_token_id=EOS)
    sampler, history = Sampler(params, 3, 0, generator(0, 0)), list(prompt)
    while len(history) < 15 and history[-1] != EOS:
        with torch.no_grad():
            logits = model(torch.tensor([history])).logits[0, -1].numpy()
        history.append(sampler(np.array(history), logits))
    assert history == expected


def test_draws_the_distribution_that_transformers_computes() -> None:
    given = {"do_sample": True, "temperature": 1.5, "top_k": 10, "repetition_penalty": 1.2}
    history, logits, draws = np.array([1, 2, 3]), row(5), 10_000
    scores = processors(given, 3, 6)(
        torch.from_numpy(history)[None], torch.from_numpy(logits)[None]
    )[0]
    expected = draws * torch.softmax(scores.double(), -1).numpy()
    sampler = Sampler(GenerationParams(**given, max_new_tokens=6), 3, 0, generator(11, 0))
    drawn = [sampler(history, logits) for _ in range(draws)]
    observed = np.bincount(drawn, minlength=VOCAB)
    possible = expected > 0
    assert np.count_nonzero(possible) == 10
    assert not observed[~possible].any()
    statistic = ((observed - expected)[possible] ** 2 / expected[possible]).sum()
    assert statistic < CHI_SQUARE_999


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
    with pytest.raises(ParameterError, match="the constraints leave no token"):
        Sampler(params, 1, 0, generator(0, 0))(np.array([0]), row(0))


def test_tokens_beyond_the_vocabulary_are_an_error() -> None:
    sampler = Sampler(GenerationParams(suppress_tokens=[VOCAB]), 1, 0, generator(0, 0))
    with pytest.raises(ParameterError, match=f"suppress_tokens holds token {VOCAB}"):
        sampler(np.array([0]), row(0))


def test_parameters_that_a_prompt_makes_impossible_are_an_error() -> None:
    with pytest.raises(ParameterError, match="max_length=4 leaves nothing"):
        Sampler(GenerationParams(max_length=4), 4, 0, generator(0, 0))


def test_never_writes_to_history_or_logits() -> None:
    given = {**CHAINS["everything"], "frequency_penalty": 1.0}
    history, logits = np.array([1, 2, 3, 4, 5]), row(0)
    history.setflags(write=False)
    logits.setflags(write=False)
    params = GenerationParams(**given, max_new_tokens=6, eos_token_id=EOS)
    Sampler(params, 4, 0, generator(0, 0))(history, logits)
