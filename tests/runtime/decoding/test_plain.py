"""The loop on a fake decoder: which tokens come, why they end, and that every row is given back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from gpt2onnx.errors import CacheFullError, ParameterError
from gpt2onnx.runtime.decoder.protocol import Ids
from gpt2onnx.runtime.decoding.sequence import Step
from gpt2onnx.runtime.engine import loop
from tests.fake_decoder import FakeDecoder, Rule, by_history, by_last_token
from tests.raising import raises
from tests.runtime.decoding.running import continuations, run_plain

VOCAB = 12
CYCLE = by_last_token(np.roll(np.eye(VOCAB), 1, axis=1))  # after 0 comes 1, after 11 comes 0

Written = tuple[list[int], str | None]


def write(
    decoder: FakeDecoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_time: float | None = None,
    whole: bool = True,
    **parameters: Any,
) -> list[Written]:
    """What is written after each prompt, and why it ends there."""
    sequences = continuations(prompts, **parameters)
    tokens: list[list[int]] = [[] for _ in sequences]
    for step in run_plain(decoder, sequences, max_time, whole):
        assert sequences[step.sequence].finish_reason == step.finish_reason
        tokens[step.sequence].append(step.token_id)
    assert decoder.rows == []
    return [(t, s.finish_reason) for t, s in zip(tokens, sequences, strict=True)]


def steps(decoder: FakeDecoder) -> list[int]:
    """How many rows each step advanced."""
    return [size for name, size in decoder.calls if name == "step" and isinstance(size, int)]


def prefills(decoder: FakeDecoder) -> list[Any]:
    return [ids for name, ids in decoder.calls if name == "prefill"]


@pytest.mark.parametrize(
    ("parameters", "tokens", "reason"),
    [
        ({"max_new_tokens": 3}, [6, 7, 8], "length"),
        ({"max_length": 3}, [6], "length"),
        ({"eos_token_id": 8}, [6, 7, 8], "eos"),
        ({"eos_token_id": [11, 7, 9]}, [6, 7], "eos"),
        ({"eos_token_id": 8, "max_new_tokens": 3}, [6, 7, 8], "eos"),
        ({"eos_token_id": 7, "stops": {7}.__contains__}, [6, 7], "eos"),
        ({"stops": {7, 8}.__contains__}, [6, 7], "stop"),
        ({"stops": {8}.__contains__, "max_new_tokens": 3}, [6, 7, 8], "stop"),
        ({}, [6, 7, 8, 9, 10], "context"),
        ({"max_new_tokens": 5}, [6, 7, 8, 9, 10], "length"),
        ({"eos_token_id": 10}, [6, 7, 8, 9, 10], "eos"),
    ],
)
def test_why_a_sequence_ends(parameters: Any, tokens: list[int], reason: str) -> None:
    """Of 6 positions the prompt takes 2; the last token needs none, for nothing follows it."""
    assert write(FakeDecoder(CYCLE, n_positions=6), [[4, 5]], **parameters) == [(tokens, reason)]


def test_a_prompt_that_fills_all_positions() -> None:
    decoder = FakeDecoder(CYCLE, n_positions=3)
    assert write(decoder, [[4, 5, 6]]) == [([7], "context")]
    assert steps(decoder) == []


def test_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock goes on by a second each time it is read: once for the start, then once a token."""
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=count().__next__))
    assert write(FakeDecoder(CYCLE), [[0], [5]], max_time=2.5) == [
        ([1, 2, 3], "time"),
        ([6, 7, 8], "time"),
    ]


def test_the_clock_starts_with_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now))
    iterator = run_plain(FakeDecoder(CYCLE), continuations([[0]], max_new_tokens=2), max_time=1)
    now = 100.0
    assert [step.finish_reason for step in iterator] == [None, "length"]


def test_unequal_prompts_leave_one_after_another() -> None:
    decoder = FakeDecoder(CYCLE)
    written = write(decoder, [[8], [1, 2, 6], [0, 9]], eos_token_id=10)
    assert written == [([9, 10], "eos"), ([7, 8, 9, 10], "eos"), ([10], "eos")]
    assert sorted(prefills(decoder)) == [[0, 9], [1, 2, 6], [8]]
    assert steps(decoder) == [2, 1, 1]


def test_tokens_come_in_rounds() -> None:
    order = [
        (step.sequence, step.token_id, step.finish_reason)
        for step in run_plain(FakeDecoder(CYCLE), continuations([[8], [7]], eos_token_id=10))
    ]
    assert order == [(0, 9, None), (1, 8, None), (0, 10, "eos"), (1, 9, None), (1, 10, "eos")]


def test_sequences_of_one_prompt_share_its_prefill() -> None:
    decoder = FakeDecoder(by_history(VOCAB))
    prompts = [[1, 2, 3], [4]]
    sampling: dict[str, Any] = {"do_sample": True, "seed": 5, "max_new_tokens": 9}
    together = write(decoder, prompts, num_return_sequences=4, **sampling)
    assert sorted(prefills(decoder)) == prompts
    assert [call for call in decoder.calls if call[0] == "fork"] == [("fork", 3)] * 3 + [
        ("fork", 1)
    ] * 3
    assert steps(decoder) == [8] * 8
    assert len({tuple(tokens) for tokens, _ in together}) == 8
    for n, prompt in enumerate(prompts):
        assert write(decoder, [prompt], num_return_sequences=4, **sampling) == together[4 * n :][:4]


def test_a_seed_gives_the_same_alone_and_in_a_batch() -> None:
    decoder = FakeDecoder(by_history(VOCAB))
    prompts = [[1], [2, 3, 4], [1], [5, 6]]
    sampling: dict[str, Any] = {"do_sample": True, "seed": 3, "max_new_tokens": 20, "top_k": 0}
    together = write(decoder, prompts, eos_token_id=7, **sampling)
    alone = [write(decoder, [prompt], eos_token_id=7, **sampling)[0] for prompt in prompts]
    assert together == alone
    assert together[0] != write(decoder, [[1]], **{**sampling, "seed": 4})[0]


def test_logprobs_and_logits_are_the_models_own() -> None:
    rule = by_history(VOCAB)
    sequence = continuations([[1, 2]], max_new_tokens=5, repetition_penalty=3.0)
    history = [1, 2]
    for step in run_plain(FakeDecoder(rule), sequence):
        logits = rule(tuple(history))
        np.testing.assert_array_equal(step.logits, logits)
        probabilities = np.exp(logits.astype(np.float64))
        expected = np.log(probabilities[step.token_id] / probabilities.sum())
        assert step.logprob == pytest.approx(expected, abs=1e-5)
        history.append(step.token_id)
    assert sequence[0].history.tolist() == history


def test_processed_logprobs_are_those_after_penalties_and_warpers() -> None:
    """Tokens of 0.5 0.3 0.2: the first is suppressed, temperature 1/2 squares what is left."""
    decoder = FakeDecoder(by_last_token(np.tile([0.5, 0.3, 0.2], (3, 1))))
    given = {"do_sample": True, "temperature": 0.5, "suppress_tokens": [0], "max_new_tokens": 9}
    for step in run_plain(decoder, continuations([[0]], **given)):
        share = {1: 9 / 13, 2: 4 / 13}[step.token_id]
        assert np.exp(step.processed_logprob) == pytest.approx(share, abs=1e-5)


def test_a_prompt_is_not_written_to() -> None:
    (sequence,) = continuations([[0, 1]], max_new_tokens=300)
    tokens = [step.token_id for step in run_plain(FakeDecoder(CYCLE), [sequence])]
    assert tokens == [n % VOCAB for n in range(2, 302)]
    assert sequence.prompt.tolist() == [0, 1]


def test_no_sequences() -> None:
    assert list(run_plain(FakeDecoder(CYCLE), [])) == []


class Broken(FakeDecoder):
    """Raises at the second step."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(CYCLE)
        self.error = error

    def read(self, reads: Any) -> Any:
        if steps(self):
            raise self.error
        return super().read(reads)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError()])
def test_rows_are_freed_when_the_decoder_fails(error: BaseException) -> None:
    decoder = Broken(error)
    with pytest.raises(type(error)):
        list(run_plain(decoder, continuations([[0], [1, 2]])))
    assert decoder.rows == []


def test_rows_are_freed_when_a_prompt_does_not_fit() -> None:
    decoder = FakeDecoder(CYCLE, n_positions=2)
    with raises(CacheFullError, found=3, expected=2):
        list(run_plain(decoder, continuations([[0], [1, 2, 3]])))
    assert decoder.rows == []


def test_rows_are_freed_when_sampling_fails() -> None:
    def allowed(sequence: int, history: Ids) -> list[int]:
        return [3] if len(history) < 4 else []

    decoder = FakeDecoder(by_history(VOCAB))
    with raises(ParameterError, named=("prefix_allowed_tokens_fn",)):
        list(run_plain(decoder, continuations([[0], [1, 2]], prefix_allowed_tokens_fn=allowed)))
    assert decoder.rows == []


def test_alternatives_begin_with_the_most_probable_tokens() -> None:
    table = by_last_token([[0, 0.2, 0.5, 0.3], [0, 0, 0, 1], [0, 1, 0, 0], [0.9, 0, 0.1, 0]])
    several = {"return_alternatives": True, "num_return_sequences": 3, "max_new_tokens": 3}
    decoder = FakeDecoder(table)
    assert [tokens for tokens, _ in write(decoder, [[1, 0]], **several)] == [
        [2, 1, 3],
        [3, 0, 2],  # a token that comes later is the best one
        [1, 3, 0],
    ]
    assert decoder.calls[0] == ("prefill", [1, 0])
    assert [name for name, _ in decoder.calls].count("prefill") == 1
    with raises(
        ParameterError, parameters={"num_return_sequences": 4, "return_alternatives": True}
    ):
        write(decoder, [[0]], **{**several, "num_return_sequences": 4})
    assert decoder.rows == []


def test_drawn_alternatives_go_on_by_their_own_numbers() -> None:
    several = {"do_sample": True, "seed": 1, "num_return_sequences": 2}
    rule = by_history(VOCAB)
    first, second = write(FakeDecoder(rule), [[3]], return_alternatives=True, **several)
    best = np.argsort(-rule((3,)))[:2].tolist()
    assert [first[0][0], second[0][0]] == best
    assert first[0][1:] != second[0][1:]


def test_stop_fn_ends_one_sequence_and_the_others_go_on() -> None:
    told: list[tuple[int, list[int]]] = []

    def stop(index: int, history: Ids) -> bool:
        told.append((index, history.tolist()))
        return index == 1 and len(history) == 4

    decoder = FakeDecoder(CYCLE)
    written = write(decoder, [[0], [5, 6]], stop_fn=stop, max_new_tokens=4)
    assert written == [([1, 2, 3, 4], "length"), ([7, 8], "stopped")]
    assert told[:4] == [(0, [0, 1]), (1, [5, 6, 7]), (0, [0, 1, 2]), (1, [5, 6, 7, 8])]
    assert steps(decoder) == [2, 1, 1]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"max_new_tokens": 1}, "stopped"),
        ({"eos_token_id": 1}, "eos"),
        ({"stops": {1}.__contains__}, "stop"),
    ],
)
def test_an_end_of_the_texts_own_comes_before_stop_fn(
    parameters: dict[str, Any], reason: str
) -> None:
    stopping = {"stop_fn": lambda index, history: True, **parameters}
    assert write(FakeDecoder(CYCLE), [[0]], **stopping) == [([1], reason)]


@pytest.mark.parametrize("answer", [None, 1, np.array([True])])
def test_stop_fn_answers_true_or_false(answer: Any) -> None:
    decoder = FakeDecoder(CYCLE)
    sequences = continuations([[0], [1]], stop_fn=lambda index, history: answer)
    with pytest.raises(ParameterError, match=r"stop_fn returned .* for sequence 0: expected True"):
        list(run_plain(decoder, sequences))
    assert decoder.rows == []


def test_rows_are_freed_when_the_caller_stops_listening() -> None:
    decoder = FakeDecoder(CYCLE)
    iterator = run_plain(decoder, continuations([[0], [1, 2]]))
    for _ in range(3):
        next(iterator)
    assert len(decoder.rows) == 2
    iterator.close()
    assert decoder.rows == []


def test_a_loop_that_nobody_starts_takes_nothing() -> None:
    decoder = FakeDecoder(CYCLE)
    run_plain(decoder, continuations([[0]])).close()
    assert decoder.calls == []


def test_two_loops_may_share_a_decoder() -> None:
    decoder = FakeDecoder(by_history(VOCAB))
    alone = [write(decoder, [prompt], max_new_tokens=9)[0][0] for prompt in ([1, 2], [3])]
    sequences = [continuations([prompt], max_new_tokens=9) for prompt in ([1, 2], [3])]
    loops = [run_plain(decoder, each) for each in sequences]
    both: list[tuple[Step, Step]] = list(zip(*loops, strict=True))
    assert [[pair[n].token_id for pair in both] for n in (0, 1)] == alone
    assert decoder.rows == []


def test_sliding_past_the_last_position() -> None:
    """Of 4 positions a slide keeps the newest 2 tokens, which are computed again."""
    decoder = FakeDecoder(CYCLE, n_positions=4)
    tokens, reason = write(decoder, [[0]], overflow="slide", max_new_tokens=8)[0]
    assert (tokens, reason) == ([1, 2, 3, 4, 5, 6, 7, 8], "length")
    assert decoder.calls == [
        ("prefill", [0]),
        *[("step", 1)] * 3,  # the row holds 0 1 2 3
        *(("truncate", 0), ("prefill", [3, 4])),
        *[("step", 1)] * 2,  # 3 4 5 6
        *(("truncate", 0), ("prefill", [6, 7])),
    ]


def test_one_sequence_slides_while_others_step() -> None:
    decoder = FakeDecoder(CYCLE, n_positions=4)
    written = write(decoder, [[0, 1, 2, 3], [7]], overflow="slide", max_new_tokens=3)
    assert written == [([4, 5, 6], "length"), ([8, 9, 10], "length")]
    assert decoder.calls[2:] == [
        *(("truncate", 0), ("prefill", [3, 4]), ("step", 1)),
        ("step", 2),
    ]


@pytest.mark.parametrize("n_positions", [1, 2, 3])
def test_sliding_in_very_few_positions(n_positions: int) -> None:
    decoder = FakeDecoder(CYCLE, n_positions)
    assert write(decoder, [[0]], overflow="slide", max_new_tokens=9)[0][0] == list(range(1, 10))


def without_a_cache(
    rule: Rule, prompt: list[int], n_positions: int, most: int, eos: int, slides: bool
) -> Written:
    """Greedy decoding that computes all it sees again for every token."""
    history, seen = list(prompt), list(prompt)
    while True:
        history.append(int(rule(tuple(seen)).argmax()))
        written = history[len(prompt) :]
        if history[-1] == eos:
            return written, "eos"
        if len(written) == most:
            return written, "length"
        if len(seen) < n_positions:
            seen.append(history[-1])
        elif slides:
            seen = history[-((n_positions + 1) // 2) :]
        else:
            return written, "context"


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n_positions=st.integers(1, 12), slides=st.booleans())
def test_against_a_loop_without_a_cache(
    data: st.DataObject, n_positions: int, slides: bool
) -> None:
    token = st.integers(0, VOCAB - 1)
    prompt = st.lists(token, min_size=1, max_size=n_positions)
    prompts = data.draw(st.lists(prompt, min_size=1, max_size=5))
    most, eos = data.draw(st.integers(1, 20)), data.draw(token)
    rule = by_history(VOCAB, seed=data.draw(st.integers(0, 9)))
    written = write(
        FakeDecoder(rule, n_positions),
        prompts,
        max_new_tokens=most,
        eos_token_id=eos,
        overflow="slide" if slides else "error",
    )
    assert written == [
        without_a_cache(rule, prompt, n_positions, most, eos, slides) for prompt in prompts
    ]


@pytest.mark.parametrize("parameters", [{}, {"do_sample": True, "top_k": 4, "seed": 3}], ids=str)
def test_the_largest_logits_write_the_same(parameters: dict[str, Any]) -> None:
    """Prompts of unequal lengths, one of which slides past the last position."""
    prompts, rule = [[1], [2, 3, 4], [5, 6]], by_history(VOCAB)
    settings = {"max_new_tokens": 14, "num_return_sequences": 2, "overflow": "slide", **parameters}
    if not parameters:
        del settings["num_return_sequences"]
    expected = write(FakeDecoder(rule, n_positions=12), prompts, **settings)
    decoder = FakeDecoder(rule, n_positions=12)
    decoder.top = 6
    assert write(decoder, prompts, whole=False, **settings) == expected
    assert not steps(decoder)
    assert ("largest", len(expected)) in decoder.calls


def test_what_the_largest_logits_leave_open_is_asked_again() -> None:
    decoder = FakeDecoder(by_last_token(np.full((VOCAB, VOCAB), 1 / VOCAB)))
    decoder.top = 6
    assert write(decoder, [[5], [7]], whole=False, max_new_tokens=3) == [([0] * 3, "length")] * 2
    asked = [(name, size) for name, size in decoder.calls if name != "prefill"]
    assert asked == [("largest", 2), ("step", 2)] * 2


@pytest.mark.parametrize(
    ("whole", "parameters"),
    [
        (True, {}),
        (False, {"repetition_penalty": 1.2}),
        (False, {"do_sample": True, "top_k": 6}),
        (False, {"do_sample": True, "top_k": 0}),
    ],
    ids=str,
)
def test_all_logits_come_where_they_are_wanted(whole: bool, parameters: dict[str, Any]) -> None:
    decoder = FakeDecoder(by_history(VOCAB))
    decoder.top = 6
    write(decoder, [[1]], whole=whole, max_new_tokens=4, **parameters)
    assert steps(decoder) == [1, 1, 1]
    assert not [name for name, _ in decoder.calls if name == "largest"]
