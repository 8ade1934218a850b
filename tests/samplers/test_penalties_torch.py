"""Penalties beside transformers' processors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process

from gpt2onnx.samplers import penalties
from tests.samplers.test_penalties import ids, row, words

VOCABS = [17, 1000, 50257]


histories = st.lists(st.integers(0, 4), min_size=1, max_size=30)


def theirs(name: str, history: np.ndarray, logits: np.ndarray, *args: object) -> np.ndarray:
    processor = getattr(logits_process, name)(*args)
    return processor(torch.from_numpy(history)[None], torch.from_numpy(logits.copy())[None])[
        0
    ].numpy()


@pytest.mark.parametrize("masked", [False, True], ids=["finite", "masked"])
@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize("penalty", [0.5, 1.3, 5.0])
def test_repetition_penalty(penalty: float, vocab: int, masked: bool) -> None:
    for seed in range(3):
        history = np.random.default_rng(seed).integers(0, vocab, 40)
        logits = row(vocab, seed, masked=masked)
        np.testing.assert_allclose(
            penalties.repetition_penalty(history, logits, penalty=penalty),
            theirs("RepetitionPenaltyLogitsProcessor", history, logits, penalty),
            rtol=1e-6,
        )


@given(history=histories, size=st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_no_repeat_ngram(history: list[int], size: int) -> None:
    logits = row(5)
    np.testing.assert_array_equal(
        penalties.no_repeat_ngram(ids(*history), logits, size=size),
        theirs("NoRepeatNGramLogitsProcessor", ids(*history), logits, size),
    )


@given(history=st.lists(st.integers(0, 4), min_size=4, max_size=12), words=words)
@settings(max_examples=200, deadline=None)
def test_bad_words(history: list[int], words: list[list[int]]) -> None:
    logits = row(5)
    np.testing.assert_array_equal(
        penalties.bad_words(ids(*history), logits, words=penalties.by_length(words)),
        theirs("NoBadWordsLogitsProcessor", ids(*history), logits, words),
    )


@pytest.mark.parametrize("vocab", VOCABS)
def test_logit_bias_is_sequence_bias_of_single_tokens(vocab: int) -> None:
    logits, history = row(vocab), ids(1)
    biased = penalties.logit_bias(
        history, logits, ids=ids(3, 9), values=np.array([2.5, -4], np.float32)
    )
    expected = theirs("SequenceBiasLogitsProcessor", history, logits, {(3,): 2.5, (9,): -4.0})
    np.testing.assert_allclose(biased, expected, rtol=1e-6)


@pytest.mark.parametrize("length", [3, 4, 5])
def test_min_length(length: int) -> None:
    history, logits = ids(1, 2, 3, 4), row(17)
    np.testing.assert_array_equal(
        penalties.min_length(history, logits, length=length, eos_token_ids=ids(5, 16)),
        theirs("MinLengthLogitsProcessor", history, logits, length, [5, 16]),
    )


@pytest.mark.parametrize("length", [1, 2])
def test_force_at_the_beginning(length: int) -> None:
    history, logits = np.arange(length), row(17)
    np.testing.assert_array_equal(
        penalties.force_at(history, logits, ids=ids(5), length=1),
        theirs("ForcedBOSTokenLogitsProcessor", history, logits, 5),
    )


@pytest.mark.parametrize("length", [6, 7, 8])
def test_force_at_the_end(length: int) -> None:
    history, logits = np.arange(length), row(17)
    np.testing.assert_array_equal(
        penalties.force_at(history, logits, ids=ids(5, 6), length=7),
        theirs("ForcedEOSTokenLogitsProcessor", history, logits, 8, [5, 6]),
    )


@pytest.mark.parametrize("masked", [False, True], ids=["finite", "masked"])
@pytest.mark.parametrize("vocab", VOCABS)
def test_suppress(vocab: int, masked: bool) -> None:
    history, logits = ids(1, 2), row(vocab, masked=masked)
    np.testing.assert_array_equal(
        penalties.suppress(history, logits, ids=ids(0, 7, 16)),
        theirs("SuppressTokensLogitsProcessor", history, logits, [0, 7, 16]),
    )


@pytest.mark.parametrize("length", [2, 3, 4])
def test_suppress_at_the_beginning(length: int) -> None:
    history, logits = np.arange(length), row(17)
    np.testing.assert_array_equal(
        penalties.suppress_at(history, logits, ids=ids(0, 7), length=3),
        theirs("SuppressTokensAtBeginLogitsProcessor", history, logits, [0, 7], 3),
    )


def test_prefix_allowed_tokens() -> None:
    def allowed(sequence_index: int, history: np.ndarray) -> list[int]:
        return [int(history[-1]) + 1, 0]

    history, logits = ids(3, 5), row(17, masked=True)
    np.testing.assert_array_equal(
        penalties.prefix_allowed_tokens(history, logits, allowed_fn=allowed, sequence_index=0),
        theirs("PrefixConstrainedLogitsProcessor", history, logits, allowed, 1),
    )
