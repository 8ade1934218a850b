"""Speculation through Model: the same text, which drafts are taken, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx import Generation, Model
from gpt2onnx.errors import ModelFolderError, ParameterError
from tests.checkpoints import make_checkpoint
from tests.raising import raises

PROMPTS = ["hello", "abcabcabc", "", "x = x + 1; y ="]
DRAWN = {"do_sample": True, "max_new_tokens": 40, "temperature": 0.7}


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders of one-layer models in fp32, of other weights than `model`'s."""

    def exported(**config: Any) -> Path:
        folder = tmp_path_factory.mktemp("draft")
        checkpoint = make_checkpoint(folder / "checkpoint", seed=5, **{"n_layer": 1, **config})
        return gpt2onnx.export(checkpoint, folder / "out", precision="fp32", verify=False).folder

    return exported


@pytest.fixture(scope="module")
def _draft(drafts: Callable[..., Path]) -> Model:
    return gpt2onnx.load(drafts(), threads=1)


@pytest.fixture
def draft(_draft: Model) -> Iterator[Model]:
    """A draft that knows nothing of the model. A test must give back every row."""
    yield _draft
    assert _draft.decoder.cache.rows == []  # type: ignore[attr-defined]


def same(one: list[Generation], other: list[Generation]) -> None:
    for a, b in zip(one, other, strict=True):
        assert (a.token_ids, a.text, a.finish_reason) == (b.token_ids, b.text, b.finish_reason)
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-3)


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_new_tokens": 40},
        {"max_new_tokens": 100},  # as far as the positions reach
        {"max_new_tokens": 40, "repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
        *({**DRAWN, "seed": seed} for seed in range(4)),
    ],
)
def test_the_text_is_that_of_plain_decoding(
    model: Model, draft: Model, parameters: dict[str, Any]
) -> None:
    plain = model.generate(PROMPTS, **parameters)
    for how in ({"draft": draft}, {"draft": model}, {"prompt_lookup_num_tokens": 6}):
        same(model.generate(PROMPTS, **how, **parameters), plain)
        for prompt, expected in zip(PROMPTS, plain, strict=True):
            written = Generation(expected.prompt_token_ids)
            for token in model.stream(prompt, **how, **parameters):
                written.add(token)
            same([written], [expected])
            assert written.speculation is not None
            assert written.speculation.rounds < len(written.token_ids)


def test_what_is_no_model_is_no_draft(model: Model) -> None:
    with pytest.raises(ParameterError, match=r"draft=5: expected an open model, or its folder"):
        model.generate("a", draft=5)  # type: ignore[call-overload]


def test_a_draft_that_is_never_sure_enough_leaves_plain_steps(model: Model, draft: Model) -> None:
    plain = model.generate(PROMPTS, max_new_tokens=9)
    how: dict[str, Any] = {"draft": draft, "assistant_confidence_threshold": 1}
    drafted = model.generate(PROMPTS, max_new_tokens=9, **how)
    same(drafted, plain)
    for each in drafted:
        assert each.speculation is not None
        assert (each.speculation.drafted, each.speculation.rounds) == (0, 8)


def test_stop_strings_end_the_text_within_a_draft(model: Model) -> None:
    plain = model.generate("hello", max_new_tokens=40)
    stop = plain.text[20:22]
    ended = model.generate("hello", draft=model, max_new_tokens=40, stop_strings=stop)
    assert ended.text == plain.text[: plain.text.index(stop)]
    assert ended.finish_reason == "stop"


@pytest.mark.parametrize("stop", ["<|end", "<|endoftext|>"])
def test_a_special_tokens_stop_string_ends_the_text_within_a_draft(model: Model, stop: str) -> None:
    fond = {"logit_bias": {256: 12.0}, "eos_token_id": 255, "max_new_tokens": 40}
    plain = model.generate("hello", **fond)
    until = plain.token_ids[: plain.token_ids.index(256) + 1]
    for guess in ({}, {"draft": model}, {"prompt_lookup_num_tokens": 2}):
        ended = model.generate("hello", stop_strings=stop, **guess, **fond)
        assert ended.token_ids == until
        assert ended.text == model.tokenizer.decode(until)
        assert ended.finish_reason == "stop"


def test_statistics_stand_on_the_generation(model: Model, draft: Model) -> None:
    assert model.generate("hello", max_new_tokens=9).speculation is None
    sure: dict[str, Any] = {"num_assistant_tokens": 4, "assistant_confidence_threshold": 0}
    perfect = model.generate("hello", draft=model, max_new_tokens=13, **sure)
    assert perfect.speculation is not None
    assert perfect.speculation.acceptance_rate == 1
    assert (perfect.speculation.rounds, perfect.speculation.tokens) == (2, 12)  # 5, 7
    assert perfect.speculation.tokens_per_step == 6
    json.dumps(vars(perfect.speculation))
    *others, last = model.stream("hello", draft=draft, max_new_tokens=9)
    assert last.speculation is not None
    assert last.speculation.tokens == 8
    assert all(token.speculation is None for token in others)


def test_several_sequences_and_alternatives(model: Model, draft: Model) -> None:
    given: dict[str, Any] = {**DRAWN, "seed": 2, "num_return_sequences": 3, "top_logprobs": 2}
    plain: Any = model.generate(["ab", "c"], **given)
    drafted: Any = model.generate(["ab", "c"], draft=draft, **given)
    for one, other in zip(plain, drafted, strict=True):
        same(one, other)
        for a, b in zip(one, other, strict=True):
            assert [[x.id for x in y] for y in a.alternatives] == [
                [x.id for x in y] for y in b.alternatives
            ]


def test_a_regular_expression_and_a_draft(model: Model, draft: Model) -> None:
    pytest.importorskip("llguidance")
    given: dict[str, Any] = {"regex": "(ab|ba|cd){4,9}x", **DRAWN, "seed": 1}
    plain = model.generate("hello", **given)
    same([model.generate("hello", draft=draft, **given)], [plain])


def test_a_folder_is_opened_once_and_like_the_model(
    models: Callable[[str], Path], drafts: Callable[..., Path]
) -> None:
    folder = drafts()
    model = gpt2onnx.load(models("fp32"), provider="cpu", threads=1)
    plain = model.generate("hello", max_new_tokens=20)
    same([model.generate("hello", draft=folder, max_new_tokens=20)], [plain])
    (opened,) = model._assistance._opened.values()
    same([model.generate("hello", draft=str(folder), max_new_tokens=20)], [plain])
    assert list(model._assistance._opened.values()) == [opened]
    assert opened.session.provider == model.session.provider  # type: ignore[attr-defined]
    with raises(ModelFolderError, path=Path("/no/such")):
        model.generate("hello", draft="/no/such")


def test_a_draft_takes_the_place_of_a_default_lookup(model: Model, draft: Model) -> None:
    before = model.defaults
    model.defaults = {**before, "prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 1}
    try:
        assert model.generate("hello", max_new_tokens=5).speculation is not None
        assert model.generate("hello", draft=draft, max_new_tokens=5).speculation is not None
        assert model.generate("hello", num_beams=2, max_new_tokens=5).speculation is None
        off = model.generate("hello", prompt_lookup_num_tokens=None, max_new_tokens=5)
        assert off.speculation is None
    finally:
        model.defaults = before


@pytest.mark.parametrize(
    "parameters",
    [
        {"num_beams": 2},
        {"overflow": "slide"},
        {"prompt_lookup_num_tokens": 3},
        {"max_matching_ngram_size": 3},
        {"num_assistant_tokens": 0},
    ],
    ids=str,
)
def test_what_goes_with_no_draft(model: Model, draft: Model, parameters: dict[str, Any]) -> None:
    with raises(ParameterError, parameters=parameters):
        model.generate("hello", draft=draft, **parameters)
    if "num_beams" not in parameters:
        with raises(ParameterError, parameters=parameters):
            model.stream("hello", draft=draft, **parameters)


@pytest.mark.parametrize(
    ("name", "value"), [("num_assistant_tokens", 3), ("assistant_confidence_threshold", 0.0)]
)
def test_what_has_no_effect_without_a_draft(model: Model, name: str, value: float) -> None:
    message = f"{name}={value} has no effect without draft: give a draft model"
    hows: list[dict[str, Any]] = [{}, {"prompt_lookup_num_tokens": 2}]
    for how in hows:
        with pytest.raises(ParameterError, match=message):
            model.generate("hello", **{name: value}, **how)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vocab_size": 300}, "draft has 300 tokens: expected 257, the model's own"),
        ({"n_positions": 63}, "draft has 63 positions: expected at least the model's 64"),
    ],
)
def test_drafts_that_do_not_fit(
    model: Model, drafts: Callable[..., Path], config: dict[str, int], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        model.generate("hello", draft=drafts(**config))


def test_a_draft_with_another_tokenizer(model: Model, drafts: Callable[..., Path]) -> None:
    folder = drafts()
    other = gpt2onnx.load(folder, threads=1)
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    swapped = text.replace('"!":', '"?!":', 1)
    other.tokenizer = type(other.tokenizer).from_str(swapped)
    with pytest.raises(ParameterError, match="draft has another tokenizer"):
        model.generate("hello", draft=other)
