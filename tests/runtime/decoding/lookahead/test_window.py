"""The lookahead branch's window, against the authors' figure and llama.cpp's layout."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2onnx.runtime.decoding.lookahead.window import JacobiWindow


def test_what_a_token_sees_in_the_papers_figure() -> None:
    """Window 5, n-grams of 4: token 6 of the last level sees 5 of the one before, and 0 to 4."""
    window = JacobiWindow(width=5, levels=3, text=np.arange(7))
    assert window.tokens.tolist() == [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]
    assert window.attention_mask[14].nonzero()[0].tolist() == [0, 1, 2, 3, 4, 9, 14]
    assert window.attention_mask[6].nonzero()[0].tolist() == [0, 1, 6]
    assert window.attention_mask[3].nonzero()[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("width", "levels"), [(1, 1), (1, 4), (5, 1), (4, 3), (5, 3)])
def test_tokens_see_the_earlier_ones_of_their_sequences(width: int, levels: int) -> None:
    """llama.cpp's examples/lookahead: a column is a sequence, level 0 is in all that follow."""
    sequences = [set(range(column, width)) for column in range(width)]
    sequences += [{column} for _ in range(1, levels) for column in range(width)]
    positions = [level + column for level in range(levels) for column in range(width)]
    window = JacobiWindow(width, levels, np.arange(9))
    for token, (mine, here) in enumerate(zip(sequences, positions, strict=True)):
        for other, (theirs, there) in enumerate(zip(sequences, positions, strict=True)):
            earlier = there < here or token == other
            assert window.attention_mask[token, other] == bool(mine & theirs and earlier)


@pytest.mark.parametrize(("width", "levels"), [(1, 1), (1, 4), (5, 1), (4, 3)])
def test_a_tokens_position_is_the_number_that_it_attention_mask(width: int, levels: int) -> None:
    window = JacobiWindow(width, levels, np.arange(50))
    level, column = np.indices((levels, width))
    np.testing.assert_array_equal(window.attention_mask.sum(1) - 1, (level + column).ravel())
    assert not np.triu(window.attention_mask, 1).any()


def test_a_short_text_goes_round() -> None:
    assert JacobiWindow(3, 2, np.array([7, 8])).tokens.tolist() == [[7, 8, 7], [8, 7, 8]]


def test_columns_become_ngrams_and_the_oldest_level_goes() -> None:
    window = JacobiWindow(2, 2, np.array([1, 2, 3]))
    assert window.advance(np.array([8, 9])).tolist() == [[1, 2, 8], [2, 3, 9]]
    assert window.tokens.tolist() == [[2, 3], [8, 9]]
    window.tokens[0, 0] = 5
    assert window.advance(np.array([6, 7])).tolist() == [[5, 8, 6], [3, 9, 7]]
