"""Guesses as a tree: what begins alike is there once, and sees what leads to it."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from gpt2onnx.runtime.decoding.lookahead.draft_tree import DraftTree


def test_by_hand() -> None:
    tree = DraftTree([[5, 6, 7], [5, 8], [6], [5, 6]])
    assert tree.ids.tolist() == [5, 6, 7, 8, 6]
    assert tree.attention_mask.astype(int).tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 1],
    ]
    assert (tree.child(0, 5), tree.child(1, 8), tree.child(2, 8)) == (1, 4, None)


def test_no_guess() -> None:
    tree = DraftTree()
    assert (len(tree), tree.ids.shape, tree.attention_mask.tolist()) == (0, (0,), [[True]])


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), max_size=6))
def test_each_guess_is_a_path(guesses: list[list[int]]) -> None:
    tree = DraftTree(guesses)
    prefixes = {tuple(guess[:end]) for guess in guesses for end in range(1, len(guess) + 1)}
    assert len(tree) == len(tree.ids) == len(prefixes)
    for guess in guesses:
        node, seen = 0, [0]
        for token in guess:
            child = tree.child(node, token)
            assert child is not None
            assert child > node
            seen.append(node := child)
            assert tree.ids[node - 1] == token
            assert tree.attention_mask[node].nonzero()[0].tolist() == seen
