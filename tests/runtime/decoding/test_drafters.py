"""Drafters: a lookup's matches worked by hand, and a draft model's rows kept in step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from gpt2onnx.errors import OutOfMemoryError
from gpt2onnx.runtime.decoding.drafters import DraftModel, PromptLookup, followed_by
from gpt2onnx.runtime.decoding.sequence import TokenSequence
from gpt2onnx.samplers import GenerationParams
from tests.fake_decoder import FakeDecoder, by_history, by_last_token

VOCAB = 12
CYCLE = by_last_token(
    np.roll(np.eye(VOCAB), 1, axis=1).tolist()
)  # after 0 comes 1, after 11 comes 0


def sequence(prompt: Sequence[int], index: int = 0, **parameters: Any) -> TokenSequence:
    return TokenSequence(index, np.array(prompt, np.int64), GenerationParams(**parameters))


@pytest.mark.parametrize(
    ("history", "size", "count", "expected"),
    [
        ([1, 2, 3, 4, 1, 2], 2, 2, [3, 4]),
        ([1, 2, 3, 4, 1, 2], 2, 1, [3]),
        ([1, 2, 3, 9, 1, 2, 4, 9, 1, 2], 2, 2, [4, 9]),  # the latest place, not the first
        ([1, 2, 3, 9, 5, 2, 4, 9, 1, 2], 2, 2, [3, 9]),  # two tokens before one
        ([1, 2, 3, 9, 5, 2, 4, 9, 1, 2], 1, 2, [4, 9]),
        ([7, 2, 3, 8, 2], 2, 2, [3, 8]),  # one token, where two never stood there
        ([7, 2, 3, 8, 2], 9, 2, [3, 8]),
        ([1, 2, 3], 2, 5, []),
        ([1], 2, 5, []),
        ([5, 5], 2, 4, [5, 5, 5, 5]),  # goes on repeating
        ([1, 2, 3, 1, 2, 3], 2, 7, [1, 2, 3, 1, 2, 3, 1]),
    ],
)
def test_lookup(history: list[int], size: int, count: int, expected: list[int]) -> None:
    assert followed_by(np.array(history), size, count).tolist() == expected
    drafted = PromptLookup(size).draft(sequence(history), count)
    assert drafted.dtype == np.int64
    assert drafted.tolist() == expected


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 9))
def test_lookup_is_what_a_search_from_the_end_finds(
    history: list[int], size: int, count: int
) -> None:
    expected: list[int] = []
    for n in range(min(size, len(history) - 1), 0, -1):
        ends = [e for e in range(n, len(history)) if history[e - n : e] == history[-n:]]
        if ends:
            tail = history[ends[-1] :]
            expected = [tail[i % len(tail)] for i in range(count)]
            break
    assert followed_by(np.array(history), size, count).tolist() == expected


def extend(s: TokenSequence, tokens: Sequence[int]) -> None:
    """Let a sequence have chosen these."""
    for token in tokens:
        s.sample(np.log(np.eye(VOCAB, dtype="f")[token] + 1e-9), has_room=True, in_time=True)


def test_a_draft_models_row_is_kept_in_step() -> None:
    decoder = FakeDecoder(CYCLE)
    model, s = DraftModel(decoder), sequence([3, 4])
    assert model.draft(s, 3).tolist() == [5, 6, 7]
    assert decoder.calls == [("prefill", [3, 4]), ("step", 1), ("step", 1)]
    extend(s, [5, 6, 7, 8])  # all kept: the row lacks the last drafted one and the next
    decoder.calls.clear()
    assert model.draft(s, 1).tolist() == [9]
    assert decoder.calls == [("prefill", [7, 8])]
    extend(s, [9, 10])
    assert model.draft(s, 3).tolist() == [11, 0, 1]
    decoder.calls.clear()
    extend(s, [11, 5])  # the second one was another
    assert model.draft(s, 2).tolist() == [6, 7]
    assert decoder.calls == [("truncate", 9), ("prefill", [5]), ("step", 1)]
    assert decoder.rows[0].held == [*range(3, 12), 5, 6]
    model.release(s)
    model.release(s)
    assert decoder.rows == []


def test_a_read_that_failed_leaves_no_tokens_that_the_row_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = FakeDecoder(by_history(VOCAB))
    model, s = DraftModel(decoder), sequence([3, 4])
    first = model.draft(s, 3).tolist()
    extend(s, first[:1])

    def fail(reads: object) -> None:
        raise OutOfMemoryError("cpu is out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(decoder, "read", fail)
        with pytest.raises(OutOfMemoryError):
            model.draft(s, 3)
    extend(s, first[1:2])
    expected = DraftModel(FakeDecoder(by_history(VOCAB))).draft(s, 3)
    assert model.draft(s, 3).tolist() == expected.tolist()


def test_a_draft_ends_at_an_end_token() -> None:
    decoder = FakeDecoder(CYCLE)
    s = sequence([3], eos_token_id=6)
    assert DraftModel(decoder).draft(s, 9).tolist() == [4, 5, 6]
    assert len(decoder.calls) == 3


@pytest.mark.parametrize(
    ("confidence", "expected"), [(0.0, [4, 5, 6, 7]), (0.3, [4, 5]), (0.71, [4]), (1.0, [])]
)
def test_a_draft_ends_before_a_token_that_it_doubts(confidence: float, expected: list[int]) -> None:
    """After token n comes n + 1: certain after 3 and 4, ever less so later on."""
    certain = {3: 0.9, 4: 0.7, 5: 0.2, 6: 0.15}
    table = np.full((VOCAB, VOCAB), 1 / VOCAB)
    for token, probability in certain.items():
        table[token] = (1 - probability) / (VOCAB - 1)
        table[token, token + 1] = probability
    decoder = FakeDecoder(by_last_token(table.tolist()))
    drafted = DraftModel(decoder, confidence).draft(sequence([3]), 4)
    assert drafted.tolist() == expected


def test_sequences_of_one_prompt_share_its_prefill() -> None:
    decoder = FakeDecoder(by_history(VOCAB))
    model = DraftModel(decoder)
    prompt = np.array([1, 2, 3, 4])
    params = GenerationParams(do_sample=True, seed=1, top_k=0)
    both = [TokenSequence(index, prompt, params, index) for index in range(2)]
    alone = [DraftModel(FakeDecoder(by_history(VOCAB))).draft(each, 3).tolist() for each in both]
    assert [model.draft(each, 3).tolist() for each in both] == alone
    assert [call for call in decoder.calls if call[0] == "prefill"] == [
        ("prefill", [1, 2, 3, 4]),
        ("prefill", [4]),
    ]
    assert len(decoder.rows) == 2


def test_drafting_takes_no_number_from_the_sequence() -> None:
    s = sequence([1], do_sample=True, seed=5, xtc_probability=0.5)
    twin = sequence([1], do_sample=True, seed=5, xtc_probability=0.5)
    DraftModel(FakeDecoder(by_history(VOCAB))).draft(s, 5)
    logits = np.linspace(0, 1, VOCAB, dtype="f")
    assert s.sample(logits, True, True).token_id == twin.sample(logits, True, True).token_id


def test_constraints_that_leave_the_draft_nothing_end_it() -> None:
    def allowed(index: int, history: Any) -> list[int]:
        return [] if history[-1] == 5 else [int(history[-1]) + 1]

    s = sequence([3], prefix_allowed_tokens_fn=allowed)
    assert DraftModel(FakeDecoder(CYCLE)).draft(s, 9).tolist() == [4, 5]
