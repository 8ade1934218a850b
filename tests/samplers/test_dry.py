"""DRY against its author's description, spelled out token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import GenerationParams, Sampler, generator
from gpt2onnx.samplers.dry import dry
from tests.raising import raises

VOCAB = 12


def penalties(history: list[int], **given: Any) -> dict[int, float]:
    """What DRY takes from each token."""
    given = {"multiplier": 1.0, "base": 2.0, "breakers": [], **given}
    given["breakers"] = np.array(given["breakers"], np.int64)
    logits = np.zeros(VOCAB, np.float32)
    after = dry(np.array(history), logits, **given)
    assert not logits.any()
    return {int(token): -float(after[token]) for token in np.flatnonzero(after)}


def letters(text: str) -> list[int]:
    return [ord(letter) - ord("a") for letter in text]


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        # The end "abc" stands before c, "bc" before d, "c" before b: lengths 3, 2 and 1.
        ("abccbcdabc", {}, {"c": 2.0, "d": 1.0}),
        ("abccbcdabc", {"allowed_length": 1}, {"b": 1.0, "c": 4.0, "d": 2.0}),
        ("abccbcdabc", {"allowed_length": 3, "multiplier": 0.75}, {"c": 0.75}),
        ("abccbcdabc", {"allowed_length": 4}, {}),
        # The last 9 tokens begin with b: only "bc" is left before c.
        ("abccbcdabc", {"last_n": 9}, {"c": 1.0, "d": 1.0}),
        ("abccbcdabc", {"last_n": 3}, {}),
        # After the breaker b only "c" counts; a breaker at the end leaves nothing to repeat.
        ("abccbcdabc", {"breakers": [1], "allowed_length": 1}, {"c": 1.0, "d": 1.0}),
        ("abccbcdabc", {"breakers": [1]}, {}),
        ("abccbcdabc", {"breakers": [2], "allowed_length": 1}, {}),
        # A breaker is never penalized.
        ("abccbcdabc", {"breakers": [3]}, {"c": 2.0}),
        # Matches may overlap the end: "aaaa" ends with "aaa" before the last a.
        ("aaaa", {}, {"a": 2.0}),
        ("a", {"allowed_length": 1}, {}),
        ("ab", {"allowed_length": 1}, {}),
        # base 1 doesn't grow
        ("abcdefabcdef", {"base": 1.0, "multiplier": 3.0}, {"a": 3.0}),
    ],
)
def test_by_hand(text: str, given: dict[str, Any], expected: dict[str, float]) -> None:
    by_token = {letters(letter)[0]: penalty for letter, penalty in expected.items()}
    assert penalties(letters(text), **given) == by_token


def reference(
    history: list[int],
    multiplier: float,
    base: float,
    allowed: int,
    last_n: int,
    breakers: list[int],
) -> dict[int, float]:
    """For every token that came before, how much of the end of the history stands before it."""
    recent = history if last_n == -1 else history[-last_n:]
    taken: dict[int, float] = {}
    for position, token in enumerate(recent):
        if token in breakers:
            continue
        length = 0
        while (
            length < position
            and recent[position - 1 - length] == recent[-1 - length]
            and recent[-1 - length] not in breakers
        ):
            length += 1
        if length >= allowed:
            penalty = multiplier * base ** (length - allowed)
            taken[token] = max(penalty, taken.get(token, 0.0))
    return taken


@given(
    history=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    multiplier=st.floats(0.1, 5),
    base=st.floats(1, 3),
    allowed=st.integers(1, 6),
    last_n=st.one_of(st.just(-1), st.integers(1, 70)),
    breakers=st.lists(st.integers(0, 9), max_size=2),
)
@settings(max_examples=400, deadline=None)
def test_is_the_authors_definition(
    history: list[int],
    multiplier: float,
    base: float,
    allowed: int,
    last_n: int,
    breakers: list[int],
) -> None:
    taken = penalties(
        history,
        multiplier=multiplier,
        base=base,
        allowed_length=allowed,
        last_n=last_n,
        breakers=breakers,
    )
    expected = reference(history, multiplier, base, allowed, last_n, breakers)
    # Beyond 1e30 the penalty no longer grows.
    assert taken == {
        token: pytest.approx(min(penalty, 1e30), rel=1e-5) for token, penalty in expected.items()
    }


@pytest.mark.parametrize("base", [1.000001, 1.75, 1e29])
def test_a_loop_of_any_length_stays_within_float32(base: float) -> None:
    taken = penalties([5] * 2000, base=base)
    assert set(taken) == {5}
    assert np.isfinite(np.float32(taken[5]))


def test_defaults_are_the_authors() -> None:
    """1.75 ** (length - 2), over the whole history."""
    history = np.array([*letters("abcd"), *[9] * 300, *letters("abc")])
    after = dry(history, np.zeros(VOCAB, np.float32), multiplier=0.8, breakers=np.empty(0, int))
    assert after[3] == pytest.approx(-0.8 * 1.75)


def test_returns_the_same_row_where_nothing_is_repeated() -> None:
    logits = np.zeros(VOCAB, np.float32)
    breakers = np.array([2])
    assert dry(np.array([1, 2]), logits, multiplier=1, breakers=breakers) is logits


def sampler(**given: Any) -> Sampler:
    return Sampler(GenerationParams(dry_multiplier=1.0, **given), 1, 0, generator(0, 0))


def test_sampler_takes_its_parameters_from_the_call() -> None:
    given = {
        "dry_base": 2.0,
        "dry_allowed_length": 1,
        "dry_penalty_last_n": 9,
        "dry_sequence_breakers": [3],
    }
    candidates = sampler(**given).candidates(
        np.array(letters("abccbcdabc")), np.zeros(VOCAB, np.float32)
    )
    assert candidates.logits.tolist() == [0, -1, -2, *[0] * (VOCAB - 3)]


def test_greedy_decoding_heeds_it_too() -> None:
    logits = np.array([1.0, 1.5, 0.0], np.float32)
    assert sampler(dry_sequence_breakers=[])(np.array([0, 1, 0]), logits) == 1
    repeated = np.array([0, 2, 1, 0, 2])
    assert sampler(dry_sequence_breakers=[])(repeated, logits) == 0


@pytest.mark.parametrize("given", [{}, {"dry_sequence_breakers": [3, "\n"]}])
def test_sampler_knows_no_texts(given: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=r"dry_sequence_breakers holds the text '\\n'"):
        sampler(**given)


def test_breakers_beyond_the_vocabulary_are_an_error() -> None:
    with raises(ParameterError, named=("dry_sequence_breakers",)):
        sampler(dry_sequence_breakers=[VOCAB])(np.array([0]), np.zeros(VOCAB, np.float32))
