"""A choice by the largest logits alone is the choice by all of them, wherever they settle it."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import Candidates, GenerationParams, Sampler, TopLogits, generator, warpers
from gpt2onnx.samplers.draw import categorical_place
from gpt2onnx.samplers.top_logits import ALL
from tests.fake_decoder import largest
from tests.raising import raises

VOCAB, TOP = 60, 12
HISTORY = np.array([3, 1])
NO_LOGITS = np.empty(0, np.float32)

# What may follow top_k looks at its candidates alone.
LATER: dict[str, Any] = {
    "top_p": 0.8,
    "min_p": 0.1,
    "typical_p": 0.7,
    "epsilon_cutoff": 0.02,
    "eta_cutoff": 0.02,
    "tfs_z": 0.9,
    "top_a": 0.2,
    "xtc_probability": 0.5,
}


def sampler(seed: int = 0, **given: Any) -> Sampler:
    return Sampler(GenerationParams(**given), 2, 0, generator(seed, 0))


@st.composite
def rows(draw: st.DrawFn) -> np.ndarray:
    """Logits on a grid, as half precision has them: equal ones are frequent."""
    values = draw(st.lists(st.integers(-20, 20), min_size=VOCAB, max_size=VOCAB))
    return np.array(values, np.float32) * draw(st.sampled_from([0.03125, 0.25, 3.0]))


@given(
    logits=rows(),
    later=st.sets(st.sampled_from(sorted(LATER))),
    top_k=st.integers(1, TOP - 1),
    temperature=st.sampled_from([0.01, 0.7, 1.0, 3.0]),
    seed=st.integers(0, 99),
)
def test_a_settled_draw_is_that_of_all_logits(
    logits: np.ndarray, later: set[str], top_k: int, temperature: float, seed: int
) -> None:
    params = {name: LATER[name] for name in later}
    params |= {"do_sample": True, "top_k": top_k, "temperature": temperature}
    few, all_ = sampler(seed, **params), sampler(seed, **params)
    assert few.needs == top_k
    found = largest(logits, TOP)
    if not found.settles(few.needs):
        # As few as top_k asks for, and all that equal the last of them, reach to the end.
        assert found.logits[top_k - 1] == found.logits[-1]
        return
    for _ in range(3):
        ours, theirs = few.sample(HISTORY, NO_LOGITS, found), all_.sample(HISTORY, logits)
        assert ours.token == theirs.token
        assert ours.processed_logprob == theirs.processed_logprob
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-5)
        np.testing.assert_array_equal(ours.candidates.ids, theirs.candidates.ids)


@given(logits=rows())
def test_a_settled_greedy_choice_is_the_lowest_of_the_best(logits: np.ndarray) -> None:
    greedy, found = sampler(), largest(logits, TOP)
    assert greedy.needs == 1
    assert found.settles(1) == (np.sum(logits == logits.max()) < TOP)
    backwards = np.lexsort((-found.ids, -found.logits))
    for each in (found, TopLogits(*(part[backwards] for part in found[:3]))):  # equals in any order
        if each.settles(1):
            ours, theirs = greedy.sample(HISTORY, NO_LOGITS, each), greedy.sample(HISTORY, logits)
            assert ours.token == theirs.token == int(logits.argmax())
            assert ours.logprob == ours.processed_logprob
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-5)


def with_sums(logits: np.ndarray, temperature: float) -> TopLogits:
    """What the kernels tell of a row: the largest, and what a block adds up to."""
    weights = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    return largest(logits, TOP)._replace(sums=np.array([weights.sum()], np.float32))


FIRST: dict[str, Any] = {
    "top_k": {"top_k": 5},
    "top_p": {"top_k": 0, "top_p": 0.8},
    "min_p": {"top_k": 0, "min_p": 0.1},
    "typical_p": {"top_k": 0, "typical_p": 0.7},
    "nothing": {"top_k": 0},
    "mirostat": {"top_k": 0, "mirostat_mode": 2},
    "greedy": {"do_sample": False},
}
PENALTIES: dict[str, Any] = {
    "repetition_penalty": 1.5,
    "frequency_penalty": -0.7,
    "presence_penalty": 0.5,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": [1, 7, 20],
    "logit_bias": {9: 30.0},
    "forced_eos_token_id": 4,
}


@given(
    logits=rows(),
    first=st.sampled_from(sorted(FIRST)),
    later=st.sets(st.sampled_from(["xtc_probability", "typical_p", "min_p"])),
    penalties=st.sets(st.sampled_from(sorted(PENALTIES))),
    temperature=st.sampled_from([1e-4, 0.3, 1.0, 3.0]),
    seed=st.integers(0, 99),
)
def test_a_choice_with_the_largest_at_hand_is_that_of_all_logits(
    logits: np.ndarray,
    first: str,
    later: set[str],
    penalties: set[str],
    temperature: float,
    seed: int,
) -> None:
    params: dict[str, Any] = {"do_sample": True, "temperature": temperature, "max_new_tokens": 2}
    if first not in ("greedy", "mirostat"):
        params |= {name: LATER[name] for name in later}
    params |= FIRST[first]
    params |= {name: PENALTIES[name] for name in penalties}
    if first == "greedy":
        del params["do_sample"], params["temperature"]
    quick, slow = sampler(seed, **params), sampler(seed, **params)
    history = HISTORY
    for _ in range(2):
        top = with_sums(logits, quick.temperature)
        ours, theirs = quick.sample(history, logits, top), slow.sample(history, logits)
        assert ours.token == theirs.token
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-5)
        assert ours.processed_logprob == pytest.approx(theirs.processed_logprob, abs=1e-5)
        np.testing.assert_array_equal(ours.candidates.ids, theirs.candidates.ids)
        np.testing.assert_array_equal(ours.candidates.logits, theirs.candidates.logits)
        history = np.append(history, ours.token)


@pytest.mark.parametrize("first", ["top_k", "top_p", "min_p"])
def test_a_peaked_row_is_not_looked_at_as_a_whole(first: str) -> None:
    logits = np.linspace(0, -40, VOCAB, dtype=np.float32)
    quick = sampler(do_sample=True, **FIRST[first])
    blind = np.full(VOCAB, np.nan, np.float32)
    found = quick.sample(HISTORY, blind, with_sums(logits, 1.0))
    assert found.token in range(TOP)


@pytest.mark.parametrize("error", [1e-6, -1e-6])
@pytest.mark.parametrize("level", [0.0, -90.0])
def test_a_border_that_rounding_could_move_is_looked_for_in_all(error: float, level: float) -> None:
    """Next to where one token more is needed, with sums that are rounded."""
    logits = np.linspace(0, -20, VOCAB, dtype=np.float32) + np.float32(level)
    shares = np.cumsum(np.exp(logits.astype(np.float64) - level))
    for kept, share in enumerate(shares[:8] / shares[-1], 1):
        for top_p, count in ((share - 2e-7, kept), (share + 2e-7, kept + 1)):
            top = with_sums(logits, 1.0)
            assert top.sums is not None
            top = top._replace(sums=top.sums * np.float32(1 + error))
            params = {"do_sample": True, "top_k": 0, "temperature": 1.0, "top_p": float(top_p)}
            assert len(sampler(**params).sample(HISTORY, logits, top).candidates.ids) == count


@pytest.mark.parametrize("first", ["top_k", "top_p", "min_p", "greedy"])
def test_nor_is_one_in_which_penalties_moved_a_few(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.linspace(0, -40, VOCAB, dtype=np.float32)
    quick = sampler(**{"do_sample": True, "repetition_penalty": 1.5, **FIRST[first]})
    monkeypatch.setattr(Candidates, "of", None)
    monkeypatch.setattr("gpt2onnx.samplers.chain.sampler.token_logprob", lambda row, *_: -len(row))
    found = quick.sample(HISTORY, logits, with_sums(logits, 1.0))
    assert found.processed_logprob > -TOP


def test_a_row_that_loses_nearly_all_is_summed_anew() -> None:
    logits = np.zeros(VOCAB, np.float32)
    logits[3] = 40
    params = {"suppress_tokens": [3]}
    ours = sampler(**params).sample(HISTORY, logits, with_sums(logits, 1.0))
    assert ours.processed_logprob == pytest.approx(-np.log(VOCAB - 1), abs=1e-6)


@pytest.mark.parametrize("first", sorted(FIRST))
def test_where_only_unlikely_tokens_are_allowed(first: str) -> None:
    logits = np.linspace(0, -40, VOCAB, dtype=np.float32)
    params = {"do_sample": True, **FIRST[first]}
    params["prefix_allowed_tokens_fn"] = lambda index, history: [VOCAB - 1]
    found = sampler(**params).sample(HISTORY, logits, with_sums(logits, 1.0))
    assert found.token == VOCAB - 1


def test_a_temperature_beyond_float32() -> None:
    quick = sampler(do_sample=True, top_k=0, temperature=1e300)
    assert np.isfinite(np.float32(quick.temperature))


@pytest.mark.parametrize(
    ("given", "needs"),
    [
        ({}, 1),
        ({"do_sample": True}, 50),
        ({"do_sample": True, "top_k": 7, "top_p": 0.5}, 7),
        ({"do_sample": True, "top_k": 7, "sampler_order": ("temperature", "top_k", "top_p")}, 7),
        ({"do_sample": True, "top_k": 0}, ALL),
        ({"do_sample": True, "sampler_order": ("top_p", "top_k"), "top_p": 0.5}, ALL),
        ({"do_sample": True, "top_n_sigma": 1.0}, ALL),
        ({"do_sample": True, "temperature": 1.0, "dynatemp_range": 0.5}, ALL),
        ({"do_sample": True, "mirostat_mode": 2}, ALL),
        ({"repetition_penalty": 1.1}, ALL),
        ({"suppress_tokens": [3]}, ALL),
        ({"logit_bias": {3: 1.0}}, ALL),
        ({"min_new_tokens": 2, "eos_token_id": 3}, ALL),
        ({"prefix_allowed_tokens_fn": lambda index, history: [1]}, ALL),
    ],
)
def test_what_settles_a_choice(given: dict[str, Any], needs: int) -> None:
    assert sampler(**given).needs == needs


def test_a_constraint_sees_all_logits() -> None:
    params = GenerationParams(regex="a+", eos_token_id=0)
    constrained = Sampler(params, 2, 0, generator(0, 0), lambda history, logits: logits)
    assert constrained.needs == ALL


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("first", sorted(FIRST))
def test_a_broken_row_is_told_all_the_same(broken: float, first: str) -> None:
    logits = np.linspace(0, 1, VOCAB, dtype=np.float32)
    logits[4] = broken
    nothing = np.full(TOP, np.nan, np.float32)
    top = TopLogits(np.zeros(TOP, np.int64), nothing, nothing, nothing[:1])
    with raises(ParameterError, name="logits"):
        sampler(**{"do_sample": True, **FIRST[first]}).sample(HISTORY, logits, top)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_broken_row_settles_nothing(broken: float) -> None:
    logits = np.linspace(0, 1, VOCAB, dtype=np.float32)
    assert largest(logits, TOP).settles(1)
    logits[4] = broken
    with np.errstate(invalid="ignore"):
        assert not largest(logits, TOP).settles(1)


def test_logits_that_a_temperature_may_make_equal_settle_nothing() -> None:
    logits = np.full(VOCAB, 7.0, np.float32)
    logits[:3] = np.nextafter(np.float32(7), np.float32(8))
    assert not largest(logits, TOP).settles(3)
    logits[:3] = 7.001
    assert largest(logits, TOP).settles(3)


def test_as_many_as_there_are_settle_nothing_further() -> None:
    found = largest(np.arange(VOCAB, dtype=np.float32), TOP)
    assert found.settles(TOP - 1)
    assert not found.settles(TOP)
    assert not found.settles(ALL)


@pytest.mark.filterwarnings("error")
def test_where_all_else_is_forbidden_any_that_is_not_is_above_it() -> None:
    logits = np.full(VOCAB, -np.inf, np.float32)
    logits[:3] = 1, 2, 3
    found = largest(logits, TOP)
    assert found.settles(3)
    assert not found.settles(4)


def flat(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.7, 5000).astype(np.float32)


@pytest.mark.parametrize("at_hand", [True, False])
@pytest.mark.parametrize("penalties", [{}, {"suppress_tokens": [3, 700], "logit_bias": {9: 4.0}}])
def test_a_nucleus_is_drawn_from_without_narrowing_the_row(
    at_hand: bool, penalties: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"do_sample": True, "top_k": 0, "temperature": 0.9, "top_p": 0.9, **penalties}
    quick, slow = sampler(5, **given), sampler(5, **given)
    for seed in range(20):
        logits = flat(seed)
        left = slow.candidates(HISTORY, logits)
        top = with_sums(logits, quick.temperature) if at_hand else None
        with monkeypatch.context() as patched:
            patched.setattr(warpers, "top_p", None)
            if not penalties:
                patched.setattr(Candidates, "where", None)
            found = quick.sample(HISTORY, logits, top)
        expected = categorical_place(left, slow._rng)
        assert found.token == left.ids[expected]
        assert found.processed_logprob == pytest.approx(left.logprob(expected), abs=1e-6)
        np.testing.assert_array_equal(found.candidates.ids, left.ids)
        np.testing.assert_array_equal(found.candidates.logits, left.logits)


def test_where_all_of_a_long_row_is_forbidden() -> None:
    given = {"do_sample": True, "top_k": 0, "top_p": 0.9, "suppress_tokens": list(range(5000))}
    logits = flat(0)
    for top in (None, with_sums(logits, 1.0)):
        with pytest.raises(ParameterError):
            sampler(**given).sample(HISTORY, logits, top)
