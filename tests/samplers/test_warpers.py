"""Each warper against transformers' own on the same logits, and the properties that all share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpt2onnx.samplers import Candidates, Warper, warpers

LogitsProcessors = pytest.importorskip("transformers.generation.logits_process")
torch = pytest.importorskip("torch")

PAIRS = [
    pytest.param(warper, peer, id=f"{warper.func.__name__}-{next(iter(warper.keywords.values()))}")
    for warper, peer in [
        (partial(warpers.temperature, t=0.7), ("TemperatureLogitsWarper", 0.7)),
        (partial(warpers.temperature, t=3.0), ("TemperatureLogitsWarper", 3.0)),
        (partial(warpers.top_k, k=1), ("TopKLogitsWarper", 1)),
        (partial(warpers.top_k, k=9), ("TopKLogitsWarper", 9)),
        (partial(warpers.top_k, k=500), ("TopKLogitsWarper", 500)),
        (partial(warpers.top_p, p=0.0), ("TopPLogitsWarper", 0.0)),
        (partial(warpers.top_p, p=0.3), ("TopPLogitsWarper", 0.3)),
        (partial(warpers.top_p, p=0.95), ("TopPLogitsWarper", 0.95)),
        (partial(warpers.min_p, p=0.0), ("MinPLogitsWarper", 0.0)),
        (partial(warpers.min_p, p=0.05), ("MinPLogitsWarper", 0.05)),
        (partial(warpers.min_p, p=1.0), ("MinPLogitsWarper", 1.0)),
        (partial(warpers.typical_p, p=0.2), ("TypicalLogitsWarper", 0.2)),
        (partial(warpers.typical_p, p=0.9), ("TypicalLogitsWarper", 0.9)),
        (partial(warpers.epsilon_cutoff, epsilon=3e-4), ("EpsilonLogitsWarper", 3e-4)),
        (partial(warpers.epsilon_cutoff, epsilon=0.9), ("EpsilonLogitsWarper", 0.9)),
        (partial(warpers.eta_cutoff, epsilon=3e-3), ("EtaLogitsWarper", 3e-3)),
        (partial(warpers.eta_cutoff, epsilon=0.9), ("EtaLogitsWarper", 0.9)),
    ]
]
FILTERS = [pair for pair in PAIRS if not pair.id.startswith("temperature")]


def row(vocab: int, seed: int, *, ties: bool = False, masked: bool = False) -> np.ndarray:
    """Logits around GPT-2's level, flat or peaked as the seed says; all different unless `ties`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-40, (0.5, 3, 8)[seed % 3], 2 * vocab).astype(np.float32)
    logits = rng.permutation(np.unique(logits))[:vocab]
    if ties:
        logits = np.round(logits * 4) / 4
    if masked:
        logits[rng.random(vocab) < 0.6] = -np.inf
    return logits


def theirs(peer: tuple[str, float], logits: np.ndarray) -> np.ndarray:
    processor = getattr(LogitsProcessors, peer[0])(peer[1])
    return processor(torch.zeros(1, 1, dtype=torch.long), torch.from_numpy(logits)[None])[0].numpy()


def mass(logits: np.ndarray, ids: np.ndarray) -> float:
    """The probability of `ids` under logits, in float64."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return float(weights[ids].sum() / weights.sum())


@pytest.mark.parametrize(("warper", "peer"), PAIRS)
@pytest.mark.parametrize("masked", [False, True], ids=["finite", "masked"])
@pytest.mark.parametrize("vocab", [17, 1000, 50257])
def test_keeps_what_transformers_keeps(
    warper: Warper, peer: tuple[str, float], vocab: int, masked: bool
) -> None:
    for seed in range(6):
        logits = row(vocab, seed, masked=masked)
        expected = theirs(peer, logits)
        kept = warper(Candidates.of(logits))
        differing = np.setxor1d(kept.ids, np.flatnonzero(expected > -np.inf))
        # transformers sums probabilities in float32: at the border it may stop a token off.
        assert mass(logits, differing) < 2e-6
        both = np.isin(kept.ids, differing, invert=True)
        np.testing.assert_allclose(kept.logits[both], expected[kept.ids[both]], rtol=1e-6)


@pytest.mark.parametrize(("warper", "peer"), PAIRS)
def test_equal_logits_are_treated_as_in_transformers(
    warper: Warper, peer: tuple[str, float]
) -> None:
    """By value: which of several equal tokens stay at top_p's border, torch's sort leaves open."""
    for seed in range(30):
        logits = row(200, seed, ties=True, masked=seed % 2 == 0)
        expected = theirs(peer, logits)
        kept = warper(Candidates.of(logits)).logits
        np.testing.assert_allclose(np.sort(kept), np.sort(expected[expected > -np.inf]), rtol=1e-6)


@pytest.mark.parametrize(("warper", "peer"), PAIRS)
def test_candidates_of_weight_zero_change_nothing(warper: Warper, peer: tuple[str, float]) -> None:
    """A caller may build candidates that hold -inf; they count for nothing."""
    logits = row(1000, 1, masked=True)
    everything = warper(Candidates(np.arange(1000), logits))
    possible = warper(Candidates.of(logits))
    np.testing.assert_array_equal(everything.ids[everything.logits > -np.inf], possible.ids)


@pytest.mark.parametrize(("warper", "peer"), FILTERS)
@given(
    logits=arrays(np.float32, st.integers(1, 80), elements=st.floats(-100, 100, width=32)),
)
@settings(max_examples=40, deadline=None)
def test_filters_choose_a_nonempty_subset(
    warper: Warper, peer: tuple[str, float], logits: np.ndarray
) -> None:
    before = logits.copy()
    kept = warper(Candidates.of(logits))
    np.testing.assert_array_equal(logits, before)
    assert len(kept.ids)
    assert (np.diff(kept.ids) > 0).all()
    np.testing.assert_array_equal(kept.logits, logits[kept.ids])
    np.testing.assert_allclose(kept.probabilities().sum(), 1, rtol=1e-5)


@pytest.mark.parametrize(("warper", "peer"), FILTERS)
@pytest.mark.parametrize("shift", [-512.0, 256.0])
def test_adding_a_constant_changes_nothing(
    warper: Warper, peer: tuple[str, float], shift: float
) -> None:
    # Logits in steps of 2^-10, so that adding the constant rounds nothing.
    logits = np.round(row(500, 2) * 1024) / 1024
    np.testing.assert_array_equal(
        warper(Candidates.of(logits + np.float32(shift))).ids, warper(Candidates.of(logits)).ids
    )


@given(k=st.integers(1, 60), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_top_k_keeps_k_where_no_two_are_equal(k: int, seed: int) -> None:
    logits = np.random.default_rng(seed).permutation(np.arange(50, dtype=np.float32))
    kept = warpers.top_k(Candidates.of(logits), k=k)
    assert sorted(kept.logits, reverse=True) == list(range(49, max(49 - k, -1), -1))


def test_top_k_keeps_all_that_equal_the_kth() -> None:
    logits = np.array([1, 3, 2, 2, 2, 0], np.float32)
    assert warpers.top_k(Candidates.of(logits), k=2).ids.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("p", "kept"), [(0.0, [2]), (0.4, [2]), (0.6, [0, 2]), (0.8, [0, 1, 2]), (1.0, [0, 1, 2, 3])]
)
def test_top_p_by_hand(p: float, kept: list[int]) -> None:
    """Probabilities 1/4, 1/8, 1/2, 1/8: the lower id of the two equal ones stays."""
    logits = np.log(np.array([2, 1, 4, 1], np.float32))
    assert warpers.top_p(Candidates.of(logits), p=p).ids.tolist() == kept


@given(p=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_top_p_is_the_smallest_set_that_reaches_p(p: float, seed: int) -> None:
    logits = row(3000, seed)
    kept = warpers.top_p(Candidates.of(logits), p=p)
    assert mass(logits, kept.ids) >= p - 1e-6
    without_last = kept.ids[kept.logits > kept.logits.min()]
    assert mass(logits, without_last) < p + 1e-6


def test_filters_narrow_one_another() -> None:
    """Each normalizes over what the one before it left: top_p of the two best, not of all."""
    logits = np.log(np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1], np.float32))
    chain: list[Callable[[Candidates], Candidates]] = [
        partial(warpers.top_k, k=2),
        partial(warpers.top_p, p=0.55),
    ]
    candidates = Candidates.of(logits)
    for warper in chain:
        candidates = warper(candidates)
    assert candidates.ids.tolist() == [0]
