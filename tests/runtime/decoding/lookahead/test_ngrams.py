"""The pool of n-grams: what followed a token, the latest first, and no more than it may hold."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from gpt2onnx.runtime.decoding.lookahead.ngrams import NgramPool


def test_what_followed_a_token() -> None:
    pool = NgramPool(most=2)
    pool.add([[1, 2, 3], [1, 4, 5], [2, 6, 7]])
    assert pool.after(1) == [(4, 5), (2, 3)]
    assert pool.after(2) == [(6, 7)]
    assert pool.after(3) == []


def test_the_oldest_goes_and_the_repeated_is_new() -> None:
    pool = NgramPool(most=2)
    pool.add([[1, 2], [1, 3], [1, 2], [1, 4]])
    assert pool.after(1) == [(4,), (2,)]


@given(
    st.lists(st.integers(0, 3), max_size=30),
    st.integers(2, 5),
    st.integers(1, 4),
)
def test_a_texts_own(text: list[int], size: int, most: int) -> None:
    pool = NgramPool(most)
    pool.add_text(np.array(text, np.int64), size)
    grams = [tuple(text[n : n + size]) for n in range(len(text) - size + 1)]
    for token in range(4):
        mine = [gram[1:] for gram in reversed(grams) if gram[0] == token]
        assert pool.after(token) == list(dict.fromkeys(mine))[:most]
