"""Guidance: its loop on a fake decoder, and its tokens with a small model against transformers."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2onnx import Model
from gpt2onnx.errors import ParameterError, PromptError, PromptTooLongError
from gpt2onnx.runtime.decoding.guidance import Guidance
from gpt2onnx.samplers import GenerationParams, log_softmax
from gpt2onnx.samplers.guidance import guide
from tests.fake_decoder import FakeDecoder, by_history
from tests.raising import raises
from tests.runtime.decoding.running import continuations, run_strategy

VOCAB = 12
RULE = by_history(VOCAB)


def by_hand(prompt: list[int], context: list[int], scale: float, count: int) -> list[int]:
    """Greedy, each history read from its beginning."""
    new: list[int] = []
    for _ in range(count):
        logits = guide(RULE((*prompt, *new)), RULE((*context, *new)), scale)
        new.append(int(logits.argmax()))
    return new


@pytest.mark.parametrize("negative", [None, [4, 4]])
@pytest.mark.parametrize("scale", [-1.0, 0.0, 2.0])
def test_several_prompts_are_guided_as_alone(negative: list[int] | None, scale: float) -> None:
    prompts = [[1], [2, 3, 5], [0, 1, 2, 3, 4]]
    decoder, sequences = FakeDecoder(RULE), continuations(prompts, max_new_tokens=8)
    context = None if negative is None else np.array(negative)
    list(run_strategy(Guidance(scale, context), decoder, sequences))
    assert decoder.rows == []
    for prompt, sequence in zip(prompts, sequences, strict=True):
        wanted = by_hand(prompt, negative or prompt[-1:], scale, 8)
        assert sequence.history[len(prompt) :].tolist() == wanted


def test_contexts_are_read_once_and_share_every_step() -> None:
    decoder = FakeDecoder(RULE)
    drawn = {"do_sample": True, "num_return_sequences": 2, "max_new_tokens": 3}
    guidance = Guidance(2, np.array([7, 8]))
    list(run_strategy(guidance, decoder, continuations([[1, 2], [3]], **drawn)))
    prefilled = [ids for name, ids in decoder.calls if name == "prefill"]
    assert sorted(prefilled) == [[1, 2], [3], [7, 8], [7, 8]]
    assert [rows for name, rows in decoder.calls if name == "step"] == [8, 8]
    decoder.calls.clear()
    list(run_strategy(Guidance(2), decoder, continuations([[1, 2], [3]], **drawn)))
    prefilled = [ids for name, ids in decoder.calls if name == "prefill"]
    assert sorted(prefilled) == [[1, 2], [2], [3], [3]]


def test_a_finished_sequence_leaves_the_step() -> None:
    decoder, sequences = FakeDecoder(RULE), continuations([[1], [2]], max_new_tokens=6)
    end = by_hand([1], [1], 2.0, 1)[0]
    assert end not in by_hand([2], [2], 2.0, 6)
    for sequence in sequences:
        sequence.params = GenerationParams(max_new_tokens=6, eos_token_id=end)
    list(run_strategy(Guidance(2), decoder, sequences))
    assert [each.finish_reason for each in sequences] == ["eos", "length"]
    assert {rows for name, rows in decoder.calls if name == "step"} == {2}


@pytest.mark.parametrize(("prompt", "negative"), [([1, 2, 3], None), ([1], [1, 2, 3])])
def test_ends_where_either_context_is_full(prompt: list[int], negative: list[int] | None) -> None:
    decoder = FakeDecoder(RULE, n_positions=5)
    (sequence,) = continuations([prompt], max_new_tokens=50)
    list(run_strategy(Guidance(2, negative and np.array(negative)), decoder, [sequence]))
    assert sequence.finish_reason == "context"
    assert len(sequence.history) == len(prompt) + 3
    assert decoder.rows == []


def test_tells_the_models_own_logprobs_and_penalties_come_after_guidance() -> None:
    (sequence,) = continuations([[1, 2]], max_new_tokens=5, repetition_penalty=1.7)
    context = [3]
    for step in run_strategy(Guidance(2, np.array([3])), FakeDecoder(RULE), [sequence]):
        before = sequence.history[:-1]
        logits = RULE(tuple(before))
        np.testing.assert_array_equal(step.logits, logits)
        assert step.logprob == pytest.approx(log_softmax(logits)[step.token_id], abs=1e-5)
        guided = guide(logits, RULE(tuple(context)), 2)
        seen = np.unique(before)
        guided[seen] = np.where(guided[seen] < 0, guided[seen] * 1.7, guided[seen] / 1.7)
        assert step.token_id == guided.argmax()
        wanted = log_softmax(guided)[step.token_id]
        assert step.processed_logprob == pytest.approx(wanted, abs=1e-5)
        context.append(step.token_id)


def test_max_time_and_closing_free_the_rows() -> None:
    decoder, sequences = FakeDecoder(RULE), continuations([[1], [2]], max_new_tokens=50)
    list(run_strategy(Guidance(2), decoder, sequences, max_time=1e-9))
    assert [each.finish_reason for each in sequences] == ["time", "time"]
    steps = run_strategy(Guidance(2), decoder, continuations([[1], [2]], max_new_tokens=50))
    next(steps)
    assert len(decoder.rows) == 4
    steps.close()
    assert decoder.rows == []


def test_guidance_changes_the_text_and_1_is_off(model: Model) -> None:
    plain = model.generate("hello", max_new_tokens=12)
    assert model.generate("hello", max_new_tokens=12, guidance_scale=1) == plain
    texts = [
        model.generate("hello", max_new_tokens=12, guidance_scale=3, negative_prompt=negative)
        for negative in (None, "bye", "")
    ]
    assert len({each.text for each in texts} | {plain.text}) == 4
    assert all(each.speculation is None for each in texts)
    bos = model.generate("hello", max_new_tokens=12, guidance_scale=3, negative_prompt=[256])
    assert bos == texts[2]


def test_draws_are_reproducible(model: Model) -> None:
    drawn = {"do_sample": True, "seed": 3, "num_return_sequences": 3, "max_new_tokens": 10}
    first = model.generate("ab", guidance_scale=1.5, **drawn)
    assert model.generate("ab", guidance_scale=1.5, **drawn) == first


def test_mistakes(model: Model) -> None:
    with raises(ParameterError, named=("negative_prompt", "guidance_scale")):
        model.generate("a", negative_prompt="b")
    with raises(ParameterError, named=("negative_prompt", "guidance_scale")):
        model.generate("a", negative_prompt="b", draft=model)
    with raises(ParameterError, parameters={"guidance_scale": 2.0}):
        model.generate("a", guidance_scale=2, draft=model)
    with pytest.raises(PromptError, match="negative_prompt is a list: expected one"):
        model.generate(["a"], guidance_scale=2, negative_prompt=["b"])
    with raises(PromptTooLongError, found=65, expected=64):
        model.stream("a", guidance_scale=2, negative_prompt="b" * 65)
