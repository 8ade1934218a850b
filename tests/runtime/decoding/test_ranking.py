"""Which texts are given, in what order, and the log-probabilities of prompts and of choices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from gpt2onnx import Generation, GenerationParams, Model
from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.decoding import ranking
from gpt2onnx.runtime.decoding.ranking import PromptLogprobs
from gpt2onnx.runtime.decoding.top_tokens import TopTokens
from gpt2onnx.runtime.engine.loop import run
from tests.fake_decoder import FakeDecoder, by_last_token
from tests.raising import raises

DRAWN: dict[str, Any] = {"do_sample": True, "seed": 7, "max_new_tokens": 12}
# After 0 comes 1 or 2, after each of these 0.
FORK = by_last_token([[0, 0.25, 0.75], [1, 0, 0], [0.5, 0, 0.5]])


def of_logprobs(*logprobs: float) -> Generation:
    return Generation([0], logprobs=list(logprobs))


# --- best_of -------------------------------------------------------------------------------------


def test_the_best_has_the_highest_mean() -> None:
    short, long = of_logprobs(-2.0), of_logprobs(-1.0, -1.5, -1.0)  # the sum would favour the short
    low, equal = of_logprobs(-9.0, -1.0), of_logprobs(-2.0, -2.0)
    params = GenerationParams(do_sample=True, best_of=4, num_return_sequences=3)
    (first, second) = ranking.given([low, short, equal, long, long, low, equal, short], params)
    assert [id(each) for each in first] == [id(long), id(short), id(equal)]
    assert [id(each) for each in second] == [id(long), id(equal), id(short)]


def test_without_best_of_the_draws_keep_their_order() -> None:
    low, high = of_logprobs(-2.0), of_logprobs(-1.0)
    params = GenerationParams(do_sample=True, num_return_sequences=2)
    assert ranking.given([low, high, high, low], params) == [[low, high], [high, low]]
    assert ranking.given([], params) == []


@pytest.mark.parametrize("lookup", [None, 4])
def test_the_best_of_a_models_draws(model: Model, lookup: int | None) -> None:
    prompts = ["ab", "another"]
    parameters = {**DRAWN, "prompt_lookup_num_tokens": lookup}
    drawn: list[Any] = model.generate(prompts, num_return_sequences=5, **parameters)
    ranked = [sorted(group, key=lambda each: -np.mean(each.logprobs)) for group in drawn]
    assert ranked != drawn
    assert model.generate(prompts, best_of=5, num_return_sequences=2, **parameters) == [
        group[:2] for group in ranked
    ]
    assert model.generate("ab", best_of=5, **parameters) == ranked[0][0]


# --- alternatives --------------------------------------------------------------------------------


def test_alternatives_of_a_model(model: Model) -> None:
    plain = model.generate("abc", max_new_tokens=8, top_logprobs=3)
    several: Any = model.generate(
        "abc", max_new_tokens=8, return_alternatives=True, num_return_sequences=3
    )
    assert [each.token_ids[0] for each in several] == [a.id for a in plain.alternatives[0]]
    assert several[0].text == plain.text
    for each in several:
        begun = [*each.prompt_token_ids, each.token_ids[0]]
        assert model.generate(begun, max_new_tokens=7).token_ids == each.token_ids[1:]


# --- log-probabilities after penalties and warpers -----------------------------------------------


def test_a_plain_greedy_choice_changes_nothing(model: Model) -> None:
    written = model.generate("abc", max_new_tokens=5)
    assert written.processed_logprobs == written.logprobs
    assert model.generate("abc", max_new_tokens=5, num_beams=2).processed_logprobs == []


# --- the prompt's log-probabilities --------------------------------------------------------------


def test_prompt_logprobs_on_a_table() -> None:
    decoder = FakeDecoder(FORK)
    written = [Generation(ids) for ids in ([0, 1, 0, 2], [1], [0, 1, 0, 2])]
    none = TopTokens(Tokenizer(models.BPE()), 3, 0)
    prompts = PromptLogprobs(decoder, [np.array(each.prompt_token_ids) for each in written], none)
    list(run(decoder, prompts.tasks))
    prompts.add_to(written)
    expected = np.log([0.25, 1, 0.75]).tolist()
    assert written[0].prompt_logprobs == pytest.approx(expected, abs=1e-6)
    assert written[0].prompt_logprobs == written[2].prompt_logprobs
    assert written[0].prompt_logprobs is not written[2].prompt_logprobs
    assert written[1].prompt_logprobs == []
    assert [name for name, _ in decoder.calls if name == "extend"] == ["extend"]
    assert decoder.rows == []


@pytest.mark.parametrize(
    ("prompt", "overflow"), [("x" * 64, "error"), ("y" * 90, "truncate"), ("z" * 90, "slide")]
)
def test_prompt_logprobs_are_those_of_the_prompt_that_is_read(
    model: Model, prompt: str, overflow: str
) -> None:
    written = model.generate(prompt, prompt_logprobs=True, overflow=overflow, max_new_tokens=2)
    assert written.prompt_logprobs is not None
    assert len(written.prompt_logprobs) == len(written.prompt_token_ids) - 1
    assert written.prompt_logprobs == (
        model.score(written.prompt_token_ids, add_bos=False).logprobs
    )


def test_no_prompt_logprobs_unless_asked(model: Model) -> None:
    assert model.generate("abc", max_new_tokens=1).prompt_logprobs is None
    with raises(ParameterError, parameters={"prompt_logprobs": 1}):
        model.generate("abc", prompt_logprobs=1)
