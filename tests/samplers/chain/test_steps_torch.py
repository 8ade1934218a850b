"""The whole chain beside transformers' processors, and its greedy texts."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from gpt2onnx.samplers import GenerationParams, Sampler, generator
from tests.samplers.chain.test_steps import CHAINS, EOS, VOCAB, allow_odd, row

# The 0.999 quantile of chi-square with 9 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.4).
CHI_SQUARE_999 = 27.877


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
