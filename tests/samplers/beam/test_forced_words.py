"""Progress through phrases against their definition: a text contains them or not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2onnx.samplers.beam.forced_words import Phrase, Phrases

ALPHABET = 3
phrase = st.lists(st.integers(0, ALPHABET - 1), min_size=1, max_size=3).map(tuple)
constraints = st.lists(st.lists(phrase, min_size=1, max_size=2), max_size=3)
texts = st.lists(st.integers(0, ALPHABET), max_size=8)


def contains(text: Sequence[int], phrase: Phrase) -> bool:
    return any(tuple(text[i : i + len(phrase)]) == phrase for i in range(len(text)))


def met(text: Sequence[int], constraints: Sequence[Sequence[Phrase]]) -> bool:
    return all(any(contains(text, phrase) for phrase in phrases) for phrases in constraints)


def read(phrases: Phrases, text: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    progress = phrases.start
    for token in text:
        progress = phrases.advance(progress, token)
    return progress


def fewest(text: Sequence[int], constraints: Sequence[Sequence[Phrase]]) -> int:
    """By trying all texts, the shortest first."""
    return next(
        length
        for length in count()
        if any(met([*text, *end], constraints) for end in product(range(ALPHABET), repeat=length))
    )


@given(constraints, texts)
def test_nothing_is_needed_where_the_text_contains_all(
    constraints: list[list[Phrase]], text: list[int]
) -> None:
    phrases = Phrases(constraints)
    assert (phrases.needed(read(phrases, text)) == 0) == met(text, constraints)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(phrase, min_size=1, max_size=2), max_size=2), texts)
def test_needed_is_the_shortest_way(constraints: list[list[Phrase]], text: list[int]) -> None:
    phrases = Phrases(constraints)
    assert phrases.needed(read(phrases, text)) == fewest(text, constraints)


@given(constraints, texts)
def test_one_of_the_next_tokens_is_the_shortest_way(
    constraints: list[list[Phrase]], text: list[int]
) -> None:
    phrases = Phrases(constraints)
    progress = read(phrases, text)
    needed = phrases.needed(progress)
    after = {
        token: phrases.needed(phrases.advance(progress, token)) for token in range(ALPHABET + 1)
    }
    assert min(after.values()) == max(needed - 1, 0)
    advancing = phrases.next_tokens(progress)
    assert bool(advancing) == bool(needed)
    if needed:
        assert min(after[token] for token in advancing) == needed - 1


@pytest.mark.parametrize(
    ("constraints", "needed"),
    [
        ([], 0),
        ([[(1, 2)], [(2, 3)]], 3),  # 1 2 3
        ([[(1, 2, 3)], [(2,)]], 3),  # one within the other
        ([[(1, 2)], [(1, 2)]], 2),  # one text does for both
        ([[(1, 2, 3), (4,)], [(5, 6)]], 3),  # 4 is the shorter one
        ([[(n,)] for n in range(40)], 40),  # nothing to overlap: not every order is tried
    ],
)
def test_needed_at_the_start(constraints: list[list[Phrase]], needed: int) -> None:
    phrases = Phrases(constraints)
    assert phrases.needed(phrases.start) == needed


def test_a_broken_phrase_begins_again_where_its_end_repeats_its_beginning() -> None:
    phrases = Phrases([[(1, 1, 2)]])
    assert phrases.needed(read(phrases, [1, 1])) == 1
    assert phrases.needed(read(phrases, [1, 1, 1])) == 1
    assert phrases.needed(read(phrases, [1, 1, 3])) == 3
