"""Rows narrowed and drawn together are, to the last bit, what each is alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from gpt2onnx.samplers import (
    Candidates,
    Draw,
    GenerationParams,
    Sampler,
    TopLogits,
    Warper,
    compose_warpers,
    draw_alike,
    generator,
    warpers,
)
from gpt2onnx.samplers.rows import MOST, Rows
from tests.fake_decoder import largest

VOCAB, TOP = 60, 12


def candidates(draw: st.DrawFn, most: int = 40) -> Candidates:
    """Logits on a grid, so that many are equal, or anywhere; some forbidden, not all."""
    size = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    logits = rng.normal(-30, draw(st.sampled_from([0.1, 2.0, 9.0, 80.0])), size).astype(np.float32)
    if draw(st.booleans()):
        logits = np.round(logits * 2) / 2
    logits[rng.random(size) < draw(st.sampled_from([0.0, 0.0, 0.5]))] = -np.inf
    logits[rng.integers(size)] = -30
    return Candidates(np.sort(rng.permutation(VOCAB * 10)[:size]), logits)


@st.composite
def rows(draw: st.DrawFn) -> list[Candidates]:
    return [candidates(draw, draw(st.sampled_from([1, 40, MOST]))) for _ in range(draw(counts))]


counts = st.integers(1, 6)
shares = st.sampled_from([0.0, 0.01, 0.2, 0.5, 0.9, 0.99, 1.0])
steps = st.one_of(
    st.builds(lambda k: partial(warpers.top_k, k=k), st.integers(0, 30)),
    st.builds(lambda p: partial(warpers.top_p, p=p), shares),
    st.builds(lambda p: partial(warpers.min_p, p=p), shares),
    st.builds(lambda p: partial(warpers.typical_p, p=p), shares.filter(bool)),
    st.builds(lambda e: partial(warpers.epsilon_cutoff, epsilon=e), shares),
)


def test_each_that_narrows_rows_is_among_the_steps() -> None:
    names = {"top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff"}
    assert {each.__name__ for each in warpers.BY_ROWS} == names


def possible(candidates: Candidates) -> Candidates:
    return candidates.where(candidates.logits > -np.inf)


def assert_same(ours: Candidates, theirs: Candidates) -> None:
    np.testing.assert_array_equal(ours.ids, theirs.ids)
    np.testing.assert_array_equal(ours.logits, theirs.logits)


@given(rows=rows(), chain=st.lists(steps, max_size=5))
@settings(max_examples=500, deadline=None)
def test_rows_are_narrowed_as_each_alone(rows: Sequence[Candidates], chain: list[Warper]) -> None:
    warp = compose_warpers(chain)
    together = warp(Rows.together(rows))
    assert isinstance(together, Rows)
    for number, row in enumerate(rows):
        alone = warp(row)
        assert_same(together.row(number), possible(alone))
        assert together.most[number] == alone.most
        assert together.total[number] == alone.total


@given(rows=rows(), chain=st.lists(steps, max_size=3), seed=st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_rows_are_drawn_from_as_each_alone(
    rows: Sequence[Candidates], chain: list[Warper], seed: int
) -> None:
    def draws() -> list[Draw]:
        rngs = [generator(seed, number) for number in range(len(rows))]
        rest = compose_warpers(chain)
        return [
            Draw(row, rest, "alike", rng, lambda *drawn: drawn)  # type: ignore[arg-type,return-value]
            for row, rng in zip(rows, rngs, strict=True)
        ]

    together, alone = draws(), draws()
    draw_alike(together)
    for ours, theirs in zip(together, alone, strict=True):
        drawn, expected = tuple(ours.choice), tuple(theirs.choice)
        assert drawn[:2] == expected[:2]
        assert_same(possible(drawn[2]()), possible(expected[2]()))
        assert ours.rng.random() == theirs.rng.random()


CHAINS: list[dict[str, Any]] = [
    {"top_k": 5},
    {"top_k": 7, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.9},
    {"top_k": 0, "min_p": 0.2, "epsilon_cutoff": 0.1},
    {"top_k": 0, "top_p": 0.7, "typical_p": 0.5},
    {"top_k": 6, "tfs_z": 0.9},
    {"top_k": 6, "xtc_probability": 0.9},
]
PENALTIES: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.5, "presence_penalty": 0.3},
    {"logit_bias": {3: 5.0}, "no_repeat_ngram_size": 1},
]


@given(
    seed=st.integers(0, 10_000),
    kinds=st.lists(st.tuples(st.sampled_from(CHAINS), st.sampled_from(PENALTIES)), min_size=1),
    count=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None)
def test_samplers_choose_together_what_each_chooses_alone(
    seed: int, kinds: list[tuple[dict[str, Any], dict[str, Any]]], count: int
) -> None:
    rng = np.random.default_rng(seed)
    asked: list[tuple[Sampler, Sampler, np.ndarray, np.ndarray, TopLogits]] = []
    for chain, penalties in kinds * count:
        params = GenerationParams(do_sample=True, temperature=0.7, **chain, **penalties)
        twins = [Sampler(params, 1, 0, generator(seed, len(asked))) for _ in range(2)]
        logits = np.round(rng.normal(0, 3, VOCAB) * 4).astype(np.float32) / 4
        history = rng.integers(0, VOCAB, rng.integers(1, 9))
        asked.append((twins[0], twins[1], history, logits, largest(logits, TOP)))
    begun = [sampler.prepare(*row) for sampler, _, *row in asked]
    draw_alike(each for each in begun if isinstance(each, Draw))
    for ours, (_, twin, *row) in zip(begun, asked, strict=True):
        chosen = ours.choice if isinstance(ours, Draw) else ours
        alone = twin.sample(*row)
        assert chosen[:3] == alone[:3]
        assert_same(chosen.candidates, alone.candidates)


@pytest.mark.parametrize(
    ("given", "others", "together"),
    [
        ({"top_k": 7, "top_p": 0.9}, {"seed": 9}, True),
        ({"top_k": 7, "top_p": 0.9}, {"repetition_penalty": 1.2}, True),
        ({"top_k": 7, "top_p": 0.9}, {"temperature": 0.5}, True),  # before what they share
        ({"top_k": 7, "top_p": 0.9}, {"top_p": 0.8}, False),
        ({"top_k": 7, "tfs_z": 0.9}, {}, False),
        ({"top_k": 7, "xtc_probability": 0.9}, {}, False),
    ],
)
def test_which_share_their_calls(
    given: dict[str, Any], others: dict[str, Any], together: bool, put_together: list[int]
) -> None:
    logits = np.linspace(3, -3, VOCAB, dtype=np.float32)
    begun = []
    for each in (given, {**given, **others}):
        sampler = Sampler(GenerationParams(do_sample=True, **each), 1, 0, generator(0, 0))
        begun.append(sampler.prepare(np.array([3]), logits, largest(logits, TOP)))
    draw_alike(each for each in begun if isinstance(each, Draw))
    assert put_together == [2] * together
