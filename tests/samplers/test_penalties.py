"""Each penalty and constraint against transformers' own; frequency and presence by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import Penalty, penalties


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.int64)


def row(vocab: int, seed: int = 0, *, masked: bool = False) -> np.ndarray:
    """Logits on both sides of zero."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, vocab).astype(np.float32)
    if masked:
        logits[rng.random(vocab) < 0.5] = -np.inf
    return logits


def test_no_repeat_ngram_by_hand() -> None:
    """After 1 2 3 … 1 2, three would repeat the trigram; after 1 2 4 … 1 2, four."""
    masked = penalties.no_repeat_ngram(ids(1, 2, 3, 1, 2, 4, 1, 2), row(6), size=3)
    assert np.flatnonzero(masked == -np.inf).tolist() == [3, 4]


words = st.lists(
    st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=6, unique_by=tuple
)


def test_a_bad_word_is_forbidden_where_the_history_is_its_beginning() -> None:
    """transformers lets [7, 3] pass after [7] alone."""
    words = penalties.by_length([[7, 3], [1, 7, 4]])
    masked = penalties.bad_words(ids(7), row(10), words=words)
    assert np.flatnonzero(masked == -np.inf).tolist() == [3]


def test_frequency_and_presence_by_hand() -> None:
    """Prompt 0 0 1; generated 2 1 2 2: two counts 3, one counts 1, zero doesn't count."""
    history = ids(0, 0, 1, 2, 1, 2, 2)
    logits = np.array([5, 5, 5, 5], np.float32)
    penalized = penalties.frequency_presence_penalty(
        history, logits, prompt_length=3, frequency=0.5, presence=0.25
    )
    assert penalized.tolist() == [5, 5 - 0.5 - 0.25, 5 - 1.5 - 0.25, 5]


def test_frequency_and_presence_need_generated_tokens() -> None:
    logits = row(5)
    penalized = penalties.frequency_presence_penalty(
        ids(1, 2, 3), logits, prompt_length=3, frequency=2, presence=2
    )
    assert penalized is logits


def test_min_length_passes_over_an_end_token_beyond_the_vocabulary() -> None:
    masked = penalties.min_length(ids(1), row(17), length=9, eos_token_ids=ids(2, 50256))
    assert np.flatnonzero(masked == -np.inf).tolist() == [2]


def test_prefix_allowed_tokens_is_told_sequence_and_history() -> None:
    told = []

    def allowed(sequence_index: int, history: np.ndarray) -> np.ndarray:
        told.append((sequence_index, history.tolist()))
        return ids(1)

    penalties.prefix_allowed_tokens(ids(4, 2), row(9), allowed_fn=allowed, sequence_index=3)
    assert told == [(3, [4, 2])]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], r"returned \[\] for sequence 2: expected a non-empty list"),
        ({1, 2}, "expected a non-empty list"),
        (None, "expected a non-empty list"),
        ([0.5], "expected a non-empty list"),
        ([True], "expected a non-empty list"),
        ([3, 17], "ids from 3 to 17: expected ids from 0 to 16"),
        ([-1], "ids from -1 to -1"),
    ],
)
def test_prefix_allowed_tokens_refuses(answer: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        penalties.prefix_allowed_tokens(
            ids(1), row(17), allowed_fn=lambda index, history: answer, sequence_index=2
        )


ALL: list[Penalty] = [
    lambda h, x: penalties.logit_bias(h, x, ids=ids(1), values=np.array([2], np.float32)),
    lambda h, x: penalties.repetition_penalty(h, x, penalty=1.5),
    lambda h, x: penalties.frequency_presence_penalty(
        h, x, prompt_length=1, frequency=1, presence=1
    ),
    lambda h, x: penalties.no_repeat_ngram(h, x, size=1),
    lambda h, x: penalties.bad_words(h, x, words=[ids(3)[None]]),
    lambda h, x: penalties.min_length(h, x, length=9, eos_token_ids=ids(2)),
    lambda h, x: penalties.prefix_allowed_tokens(
        h, x, allowed_fn=lambda index, history: [4], sequence_index=0
    ),
    lambda h, x: penalties.force_at(h, x, ids=ids(4), length=3),
    lambda h, x: penalties.suppress(h, x, ids=ids(4)),
    lambda h, x: penalties.suppress_at(h, x, ids=ids(4), length=3),
]


@pytest.mark.parametrize("penalty", ALL)
def test_never_writes_to_what_it_gets(penalty: Penalty) -> None:
    history, logits = ids(1, 2, 2), row(17)
    history.setflags(write=False)
    logits.setflags(write=False)
    before = logits.copy()
    after = penalty(history, logits)
    np.testing.assert_array_equal(logits, before)
    assert after.dtype == np.float32
    assert (after != before).any()
