"""The whole runtime against transformers' generate: tokens, log-probabilities, distributions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from gpt2onnx import Model

VOCAB = 257
EOS = 256
MAX_NEW_TOKENS = 24
# Of every length four, so that transformers can take those together.
LENGTHS = (1, 2, 7, 19, 40)
PROMPTS = [
    np.random.default_rng(length).integers(0, 256, (4, length)).tolist() for length in LENGTHS
]
# The 0.999 quantile of chi-square with 9 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.4).
CHI_SQUARE_999 = 27.877


def frequent(reference: Any) -> list[int]:
    """Tokens that this model is fond of: to be end tokens, forbidden words and the like."""
    tokens = [
        token for prompts in PROMPTS for ids in theirs(reference, prompts, {}) for token in ids
    ]
    return [int(token) for token in np.argsort(-np.bincount(tokens, minlength=VOCAB))[:6]]


def theirs(
    reference: Any, prompts: Sequence[list[int]], parameters: dict[str, Any]
) -> Iterator[list[int]]:
    """What transformers writes after prompts of one length, each up to its end token."""
    settings = {"max_new_tokens": MAX_NEW_TOKENS, "eos_token_id": EOS, **parameters}
    ids = torch.tensor(prompts)
    with torch.inference_mode():
        written = reference.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=transformers.GenerationConfig(**settings, pad_token_id=EOS),
        )
    ends = {*np.atleast_1d(settings["eos_token_id"]).tolist()}
    for row in written[:, ids.shape[1] :].tolist():
        end = next((n for n, token in enumerate(row) if token in ends), len(row))
        yield row[: end + 1]


@pytest.fixture(scope="module")
def fond(reference: Any) -> list[int]:
    return frequent(reference)


def sweeps(fond: list[int]) -> dict[str, dict[str, Any]]:
    a, b, c, d, *_ = fond
    return {
        "plain": {},
        "end token": {"eos_token_id": a},
        "end tokens": {"eos_token_id": [b, c]},
        "repetition_penalty": {"repetition_penalty": 1.3},
        "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
        "min_new_tokens": {"min_new_tokens": 12, "eos_token_id": [a, b]},
        "min_length": {"min_length": 20, "eos_token_id": [a, b]},
        "bad_words_ids": {"bad_words_ids": [[a], [b, c], [c, d, a]]},
        "suppress_tokens": {"suppress_tokens": [a, b, c]},
        "begin_suppress_tokens": {"begin_suppress_tokens": [a, b, c, d]},
        "forced_eos_token_id": {"forced_eos_token_id": EOS},
        "max_length": {"max_length": 45, "max_new_tokens": None},
        "many": {
            "repetition_penalty": 1.2,
            "no_repeat_ngram_size": 3,
            "min_new_tokens": 5,
            "eos_token_id": [a],
            "suppress_tokens": [b],
            "bad_words_ids": [[c, d]],
        },
    }


@pytest.mark.parametrize("name", list(sweeps([0, 1, 2, 3])))
def test_greedy_tokens(model: Model, reference: Any, fond: list[int], name: str) -> None:
    """All prompts, of all lengths, in one batch of ours."""
    parameters = sweeps(fond)[name]
    expected = [ids for prompts in PROMPTS for ids in theirs(reference, prompts, parameters)]
    settings = {"max_new_tokens": MAX_NEW_TOKENS, "eos_token_id": EOS, **parameters}
    ours = model.generate([ids for prompts in PROMPTS for ids in prompts], **settings)
    assert [generation.token_ids for generation in ours] == expected
    if name in ("end token", "end tokens", "many"):
        assert {generation.finish_reason for generation in ours} >= {"eos", "length"}


def test_logprobs(model: Model, reference: Any) -> None:
    """The model's own, whatever penalties and warpers chose among."""
    for prompts in PROMPTS:
        results = model.generate(
            prompts, max_new_tokens=20, do_sample=True, seed=1, repetition_penalty=1.5
        )
        for result in results:
            ids = result.prompt_token_ids + result.token_ids
            with torch.inference_mode():
                rows = reference(torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
            first = len(result.prompt_token_ids) - 1
            expected = [rows[first + n, token] for n, token in enumerate(result.token_ids)]
            np.testing.assert_allclose(result.logprobs, expected, atol=1e-4)


def processed(reference: Any, ids: list[int], parameters: dict[str, Any]) -> Any:
    """The probabilities [vocab] that transformers draws the next token from."""
    config = transformers.GenerationConfig(**parameters, max_new_tokens=1, pad_token_id=EOS)
    with torch.inference_mode():
        (scores,) = reference.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            generation_config=config,
            return_dict_in_generate=True,
            output_scores=True,
        ).scores
    return scores[0].softmax(-1).double().numpy()


def chi_square(counts: Any, probabilities: Any, bins: int = 10) -> float:
    """Pearson's statistic with `bins` - 1 degrees of freedom.

    The most probable tokens are bins of their own; the rest are one.
    """
    order = np.argsort(-probabilities)
    expected = np.add.reduceat(probabilities[order], np.arange(bins)) * counts.sum()
    observed = np.add.reduceat(counts[order], np.arange(bins))
    assert expected.min() > 5, "too few draws for the statistic"
    return float(((observed - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 1.5, "top_k": 0},
        {"temperature": 0.9, "top_k": 40},
        {"temperature": 1.2, "top_k": 0, "top_p": 0.9},
        {"top_k": 30, "repetition_penalty": 1.4, "min_p": 0.01},
    ],
    ids=str,
)
def test_the_distribution_of_sampled_tokens(
    model: Model, reference: Any, parameters: dict[str, Any]
) -> None:
    """Forked rows, two tokens each: the second is drawn after the first was forced."""
    prompt, first = PROMPTS[2][0], 5
    settings = {"do_sample": True, **parameters}
    probabilities = processed(reference, [*prompt, first], settings)

    def allowed(sequence: int, history: Any) -> Any:
        return [first] if len(history) == len(prompt) else np.arange(VOCAB)

    draws = model.generate(
        prompt,
        num_return_sequences=1500,
        max_new_tokens=2,
        seed=11,
        eos_token_id=None,
        prefix_allowed_tokens_fn=allowed,
        **settings,
    )
    counts = np.bincount([draw.token_ids[1] for draw in draws], minlength=VOCAB)  # type: ignore[attr-defined]
    assert not counts[probabilities == 0].any()
    assert chi_square(counts, probabilities) < CHI_SQUARE_999


# Of a special token's text, and of what stands around it: every border in turn.
SPECIAL_STOPS = ["<|endoftext|>", "<|end", "text|>", "|"]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("stop", SPECIAL_STOPS)
def test_stop_strings_in_special_tokens(
    model: Model, reference: Any, checkpoint: Path, num_beams: int, stop: str
) -> None:
    """A model that is fond of a special token ends with it, and it isn't shown."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    call = {"max_new_tokens": MAX_NEW_TOKENS, "num_beams": num_beams, "stop_strings": [stop]}
    call["eos_token_id"] = 255
    ended = 0
    for prompt in (prompts[0] for prompts in PROMPTS):
        ours = model.generate(prompt, logit_bias={EOS: 12.0}, **call)
        with torch.inference_mode():
            written = reference.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                pad_token_id=0,
                tokenizer=tokenizer,
                sequence_bias=[[[EOS], 12.0]],
                **call,
            )
        assert ours.token_ids == written[0, len(prompt) :].tolist()
        if ours.finish_reason == "stop":
            ended += 1
            assert ours.text == model.tokenizer.decode(ours.token_ids[:-1])
    assert ended
