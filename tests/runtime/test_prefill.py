"""prefill_ids: a text goes on from within, and its rest is that of a run that chose them itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2onnx import Engine, Generation, Model
from gpt2onnx.errors import ParameterError, PromptTooLongError
from gpt2onnx.models import load
from gpt2onnx.runtime.decoding.sequence import TokenSequence
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.draw import generator
from tests.checkpoints import END_OF_TEXT_ID
from tests.fake_decoder import FakeDecoder, by_history
from tests.raising import raises
from tests.runtime.decoding.running import run_plain

PROMPT = "import os\n"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "size": {"enum": [1, 22, 333]}},
    "required": ["name", "size"],
    "additionalProperties": False,
}
FORM: dict[str, Any] = {"json_schema": SCHEMA, "max_new_tokens": 40}
DRAWN: dict[str, Any] = {"do_sample": True, "seed": 7, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def demo() -> Model:
    """The bundled model, whose steps haven't the bits of prompts."""
    return load("demo", threads=1)


def check(model: Model, **parameters: Any) -> Generation:
    """Cut a text everywhere: each rest is the text's."""
    whole = model.generate(PROMPT, top_logprobs=2, **parameters)
    for cut in range(1, len(whole.token_ids) + 1):
        begun = whole.token_ids[:cut]
        rest = model.generate(PROMPT, top_logprobs=2, prefill_ids=begun, **parameters)
        assert (rest.prompt_token_ids, rest.prefill_ids) == (whole.prompt_token_ids, begun)
        assert rest.token_ids == whole.token_ids[cut:]
        assert rest.logprobs == whole.logprobs[cut:]
        assert rest.processed_logprobs == whole.processed_logprobs[cut:]
        assert rest.alternatives == whole.alternatives[cut:]
        assert rest.finish_reason == whole.finish_reason
    return whole


# --- the rest is that of the whole text, to the bit -----------------------------------------------


def test_json_that_is_cut_anywhere(demo: Model) -> None:
    whole = check(demo, **FORM)
    assert whole.finish_reason == "stop"
    assert json.loads(whole.text)["size"] in (1, 22, 333)


def test_json_that_is_drawn(demo: Model) -> None:
    check(demo, **FORM, do_sample=True, seed=3, top_p=0.9)


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_new_tokens": 12},
        {**DRAWN, "temperature": 1.3, "xtc_probability": 0.5, "xtc_threshold": 0.01},
        {**DRAWN, "frequency_penalty": 0.5, "presence_penalty": 0.5, "repetition_penalty": 1.2},
        {**DRAWN, "dry_multiplier": 0.8, "no_repeat_ngram_size": 2, "guidance_scale": 1.5},
        {**DRAWN, "min_new_tokens": 10, "eos_token_id": list(range(0, 256, 2))},
        {**DRAWN, "begin_suppress_tokens": list(range(40)), "forced_eos_token_id": 7},
        {**DRAWN, "max_new_tokens": None, "max_length": 20, "best_of": 1},
        {"max_new_tokens": 10, "penalty_alpha": 0.6, "top_k": 3},
        {"max_new_tokens": 60, "overflow": "slide", "eos_token_id": None},
    ],
)
def test_what_is_counted_in(able: Model, parameters: dict[str, Any]) -> None:
    if parameters.get("overflow") == "slide":  # up to the model's last position
        whole = able.generate(PROMPT, **parameters)
        begun = whole.token_ids[:40]
        rest = able.generate(PROMPT, prefill_ids=begun, **parameters)
        assert (rest.token_ids, rest.logprobs) == (whole.token_ids[40:], whole.logprobs[40:])
    else:
        check(able, **parameters)


@pytest.mark.parametrize(
    "drafts",
    [{"prompt_lookup_num_tokens": 3}, {"lookahead_window_size": 3}, {"draft": True}],
)
def test_drafts_change_no_token(able: Model, drafts: dict[str, Any]) -> None:
    if "draft" in drafts:
        drafts = {"draft": able}
    for parameters in (DRAWN, {"max_new_tokens": 12}):
        whole = able.generate(PROMPT, **parameters)
        for cut in (1, 5, 11, 12):
            begun = whole.token_ids[:cut]
            rest = able.generate(PROMPT, prefill_ids=begun, **parameters, **drafts)
            assert rest.token_ids == whole.token_ids[cut:]


def test_several_prompts_and_draws_share_the_beginning(able: Model) -> None:
    parameters = {**DRAWN, "num_return_sequences": 2, "prefill_ids": [5, 6]}
    both = able.generate(["ab", "cde"], **parameters)
    assert both == [able.generate(prompt, **parameters) for prompt in ("ab", "cde")]
    first = able.generate("ab", **{**DRAWN, "prefill_ids": [5, 6]})
    assert both[0][0] == first
    assert both[0][1].token_ids != first.token_ids


def test_an_engine_gives_the_same(able: Model) -> None:
    prompts = [PROMPT, "ab", "xyz"]
    parameters = {**DRAWN, "prefill_ids": [3, 4, 5]}
    with Engine(able, max_rows=2, prefix_cache="1M") as engine:
        handles = [engine.submit(each, **parameters) for each in prompts]
        assert [each.result() for each in handles] == able.generate(prompts, **parameters)


@pytest.mark.parametrize("exact", [True, False])
def test_it_is_read_at_once_where_that_has_the_same_bits(exact: bool) -> None:
    decoder = FakeDecoder(by_history(20))
    decoder.exact_steps = exact
    params = GenerationParams(max_new_tokens=6, eos_token_id=None)
    whole = TokenSequence(0, np.array([1, 2, 3]), params)
    list(run_plain(decoder, [whole]))
    rest = TokenSequence(0, np.array([1, 2, 3]), params)
    assert rest.begin_with(whole.written[:3].tolist()) == 3
    decoder.calls.clear()
    list(run_plain(decoder, [rest]))
    assert rest.written.tolist() == whole.written.tolist()
    reads = [name for name, _ in decoder.calls if name in ("prefill", "step")]
    assert reads == [*["prefill"] * (1 if exact else 4), *["step"] * 2]
    assert decoder.rows == []


def test_skipped_numbers_are_those_of_draws() -> None:
    """numpy gives the same doubles one by one and together."""
    one, together = generator(5, 0), generator(5, 0)
    for _ in range(7):
        one.random()
    together.random(7)
    assert one.random() == together.random()


# --- texts, and their ends ------------------------------------------------------------------------


def test_the_text_is_what_follows(demo: Model) -> None:
    whole = demo.generate(PROMPT, regex="é→🙂[a-z ]{4}!", max_new_tokens=40)
    pieces = []
    for cut in range(len(whole.token_ids)):
        begun = whole.token_ids[:cut]
        rest = demo.generate(
            PROMPT, regex="é→🙂[a-z ]{4}!", max_new_tokens=40, prefill_ids=begun or None
        )
        assert whole.text.endswith(rest.text)
        pieces.append(rest.text)
    assert pieces[0] == whole.text
    assert pieces == sorted(pieces, key=len, reverse=True)


def test_a_stop_string_may_begin_within(demo: Model) -> None:
    whole = demo.generate(PROMPT, max_new_tokens=12)
    text = demo.tokenizer.decode(whole.token_ids)
    seams = [len(demo.tokenizer.decode(whole.token_ids[:cut])) for cut in range(12)]
    # Where two characters and the next token's first one stand for the first time.
    cut, seam = next(
        (cut, seam) for cut, seam in enumerate(seams) if text.find(text[seam - 2 : seam + 1]) > 1
    )
    stop = text[seam - 2 : seam + 1]
    begun = {"prefill_ids": whole.token_ids[:cut], "max_new_tokens": 12}
    rest = demo.generate(PROMPT, stop_strings=stop, **begun)
    assert (rest.text, rest.finish_reason) == ("", "stop")
    assert len(rest.token_ids) == 1
    other = demo.generate(PROMPT, stop_strings=text[seam - 2 : seam] + "\0", **begun)
    assert other.text == text[seam:]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"choices": ["ab", "cd"], "prefill_ids": [97, 98]}, "stop"),
        ({"stop_strings": "b", "prefill_ids": [97, 98]}, "stop"),
        ({"prefill_ids": [97, END_OF_TEXT_ID], "eos_token_id": END_OF_TEXT_ID}, "eos"),
        ({"regex": "a+", "prefill_ids": [97, END_OF_TEXT_ID]}, "eos"),
        ({"max_new_tokens": 2, "prefill_ids": [97, 98]}, "length"),
        ({"stop_fn": lambda index, history: history[-1] == 98, "prefill_ids": [1, 98]}, "stopped"),
    ],
)
def test_a_text_that_is_complete_has_no_rest(
    model: Model, parameters: dict[str, Any], reason: str
) -> None:
    ids = [byte_id(model, each) for each in parameters["prefill_ids"]]
    if "stop_fn" in parameters:
        ids = parameters["prefill_ids"]
    parameters = {**parameters, "prefill_ids": ids}
    rest = model.generate("xy", **parameters)
    assert (rest.token_ids, rest.text, rest.finish_reason) == ([], "", reason)
    assert list(model.stream("xy", **parameters)) == []
    with Engine(model) as engine:
        assert engine.submit("xy", **parameters).result() == rest
        assert engine.stats().finished == 1
    with pytest.raises(
        ParameterError, match=r"prefill_ids( has 3 tokens, and the text ends with|: token 5)"
    ):
        model.generate("xy", **{**parameters, "prefill_ids": [*ids, 5]})


def byte_id(model: Model, token: int) -> int:
    return token if token == END_OF_TEXT_ID else model.tokenizer.encode(chr(token)).ids[0]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_beams": 2}, "prefill_ids=.* with num_beams=2: beams begin with the text"),
        ({"do_sample": True, "mirostat_mode": 2}, "with mirostat_mode=2: mirostat goes by"),
        ({"return_alternatives": True, "num_return_sequences": 2}, "both say how the text begins"),
        ({"regex": "[0-9]+"}, "prefill_ids: token 65, number 1 of them, isn't what regex lets"),
        ({"prefill_ids": [1, 257]}, "prefill_ids holds token 257: expected ids from 0 to 256"),
        ({"prefill_ids": "ab"}, "prefill_ids='ab': expected token ids"),
        ({"regex": "a[0-9]+", "prefill_ids": [END_OF_TEXT_ID]}, "number 1 of them, isn't what"),
    ],
)
def test_what_doesnt_go_with_it(model: Model, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        model.generate("ab", **{"prefill_ids": [65], **parameters})


def test_there_must_be_room(model: Model, models: Callable[[str], Path]) -> None:
    n = model.decoder.n_positions
    assert model.generate([1] * (n - 3), prefill_ids=[5, 6, 7], max_new_tokens=9).token_ids
    with pytest.raises(PromptTooLongError, match=f"prompt has {n - 2} tokens, prefill_ids 3"):
        model.generate([1] * (n - 2), prefill_ids=[5, 6, 7], max_new_tokens=9)
    with raises(PromptTooLongError, found=n + 1, expected=n, named=("prefill_ids",)):
        model.generate(
            "ab",
            prefill_ids=[5, 6, 7],
            guidance_scale=2,
            negative_prompt=[1] * (n - 2),
        )
