"""Model.generate with beams: shapes, texts, scores, alternatives and stop strings."""

from __future__ import annotations

from typing import Any

import pytest

from gpt2onnx import Generation, Model
from gpt2onnx.errors import ParameterError, PromptTooLongError
from gpt2onnx.runtime.decoder.protocol import Logits
from gpt2onnx.samplers import Branch
from tests.checkpoints import END_OF_TEXT_ID
from tests.raising import raises

BEAMS: dict[str, Any] = {"num_beams": 4, "max_new_tokens": 10, "eos_token_id": None}


def test_the_shapes_of_results(model: Model) -> None:
    one = model.generate("abc", **BEAMS)
    assert isinstance(one, Generation)
    several: Any = model.generate("abc", num_return_sequences=3, **BEAMS)
    assert several[0] == one
    assert len({tuple(each.token_ids) for each in several}) == 3
    found = [each.score for each in several]
    assert found == sorted(found, reverse=True)
    batch: Any = model.generate(["x", "abc"], num_return_sequences=3, **BEAMS)
    assert [len(each) for each in batch] == [3, 3]
    assert [each.token_ids for each in batch[1]] == [each.token_ids for each in several]
    assert model.generate(["abc"], **BEAMS) == [one]
    assert model.generate([], **BEAMS) == []


def test_a_generation_says_all_about_its_tokens(model: Model) -> None:
    """The same as where a constraint leaves those tokens alone."""
    found = model.generate("abc", top_logprobs=3, **BEAMS)
    tokens = found.token_ids
    forced = model.generate(
        "abc",
        top_logprobs=3,
        max_new_tokens=10,
        eos_token_id=None,
        prefix_allowed_tokens_fn=lambda index, history: [tokens[len(history) - 3]],
    )
    assert found.prompt_token_ids == [97 - 33, 98 - 33, 99 - 33]
    assert (found.token_ids, found.text) == (forced.token_ids, forced.text)
    assert found.finish_reason == "length"
    assert found.logprobs == pytest.approx(forced.logprobs, abs=1e-4)
    assert found.score == pytest.approx(sum(found.logprobs) / 10, abs=1e-5)
    assert forced.score is None
    for ours, theirs in zip(found.alternatives, forced.alternatives, strict=True):
        assert [each.id for each in ours] == [each.id for each in theirs]
        assert [each.logprob for each in ours] == pytest.approx(
            [each.logprob for each in theirs], abs=1e-4
        )


def test_without_alternatives_there_are_none(model: Model) -> None:
    assert model.generate("abc", **BEAMS).alternatives == [()] * 10


def test_finish_reasons(model: Model) -> None:
    assert model.generate("abc", **{**BEAMS, "max_new_tokens": 100}).finish_reason == "context"
    ended = model.generate("abc", num_beams=4, forced_eos_token_id=END_OF_TEXT_ID, max_new_tokens=3)
    assert (ended.finish_reason, ended.token_ids[-1]) == ("eos", END_OF_TEXT_ID)
    assert model.generate("abc", max_time=1e-9, **BEAMS).finish_reason == "time"


def test_a_long_prompt(model: Model) -> None:
    full = model.generate([1] * 64, **BEAMS)
    assert (len(full.token_ids), full.finish_reason) == (1, "context")
    with raises(PromptTooLongError, found=65, expected=64):
        model.generate([1] * 65, **BEAMS)
    cut = model.generate([2] * 60 + [1] * 54, overflow="truncate", **BEAMS)
    assert cut.prompt_token_ids == [1] * 54
    assert len(cut.token_ids) == 10


def test_constraints_that_leave_fewer_than_asked_for(model: Model) -> None:
    found: Any = model.generate(
        "abc",
        num_return_sequences=4,
        prefix_allowed_tokens_fn=lambda index, history: [5] if len(history) == 3 else [6, 7],
        **{**BEAMS, "max_new_tokens": 2},
    )
    assert sorted(each.token_ids for each in found) == [[5, 6], [5, 7]]


def test_streams_have_no_beams(model: Model) -> None:
    with raises(ParameterError, parameters={"num_beams": 4}):
        model.stream("abc", **BEAMS)


def test_beams_of_the_models_own_defaults(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"num_beams": 3, "length_penalty": 2.0, "num_return_sequences": 2}
    monkeypatch.setattr(model, "defaults", {**model.defaults, **own})
    assert len(model.generate("abc", max_new_tokens=4)) == 2  # type: ignore[arg-type]
    assert list(model.stream("abc", max_new_tokens=4, num_beams=1))


def test_without_beams_there_is_nothing_to_observe(model: Model) -> None:
    with pytest.raises(ParameterError, match="observe has no effect without num_beams above 1"):
        model.generate("abc", observe=lambda index, logits, branches: None)


def test_the_observer_is_told_of_every_step(model: Model) -> None:
    steps: list[tuple[int, tuple[int, ...], int]] = []

    def observe(index: int, logits: Logits, branches: list[Branch]) -> None:
        steps.append((index, logits.shape, len(branches)))

    model.generate([[1, 2], [3]], observe=observe, **{**BEAMS, "max_new_tokens": 2})
    assert steps == [(n, (rows, 257), 8) for rows in (1, 4) for n in (0, 1)]
