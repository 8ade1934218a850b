"""Each warper against transformers' own, or its authors' definition; the properties all share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpt2onnx.samplers import Candidates, Warper, warpers

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


def mass(logits: np.ndarray, ids: np.ndarray) -> float:
    """The probability of `ids` under logits, in float64."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return float(weights[ids].sum() / weights.sum())


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


def test_top_p_stops_where_p_is_reached() -> None:
    candidates = Candidates.of(np.zeros(4, np.float32))
    assert warpers.top_p(candidates, p=0.5).ids.tolist() == [0, 1]


@given(p=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_top_p_is_the_smallest_set_that_reaches_p(p: float, seed: int) -> None:
    logits = row(3000, seed)
    kept = warpers.top_p(Candidates.of(logits), p=p)
    assert mass(logits, kept.ids) >= p - 1e-6
    without_last = kept.ids[kept.logits > kept.logits.min()]
    assert mass(logits, without_last) < p + 1e-6


@pytest.mark.parametrize("spread", [0.0, 1e-6, 1e-3, 0.1])
@pytest.mark.parametrize("p", [0.2, 0.9])
def test_typical_p_of_flat_logits(p: float, spread: float) -> None:
    logits = (spread * np.random.default_rng(0).normal(size=3000)).astype(np.float32)
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum()
    distance = np.abs(np.log(shares) + (shares * -np.log(shares)).sum())
    order = np.argsort(distance)
    furthest = distance[order[np.searchsorted(np.cumsum(shares[order]), p)]]
    kept = warpers.typical_p(Candidates.of(logits), p=p)
    # float32 knows log-probabilities around -8 to half a millionth.
    assert set(np.flatnonzero(distance < furthest - 1e-5)) <= set(kept.ids)
    assert set(kept.ids) <= set(np.flatnonzero(distance < furthest + 1e-5))


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


def of(*probabilities: float) -> Candidates:
    return Candidates.of(np.log(np.array(probabilities, np.float32)))


def weights(logits: np.ndarray) -> np.ndarray:
    """Probabilities in float64."""
    shares = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(shares / shares.sum())


rows = st.lists(st.integers(-60, 60), min_size=1, max_size=60).map(
    lambda steps: np.array(steps, np.float32) / 8
)


@pytest.mark.parametrize(
    ("n", "kept"), [(0.25, [3]), (0.5, [2, 3]), (1.0, [1, 2, 3]), (3.0, [0, 1, 2, 3])]
)
def test_top_n_sigma_by_hand(n: float, kept: list[int]) -> None:
    """Logits 0 3 4 5: mean 3, squares 9 0 1 4, deviation sqrt(14 / 3) = 2.16."""
    candidates = Candidates.of(np.array([0, 3, 4, 5], np.float32))
    assert warpers.top_n_sigma(candidates, n=n).ids.tolist() == kept


def test_top_n_sigma_does_not_depend_on_temperature() -> None:
    candidates = Candidates.of(row(5000, 1))
    cooled = warpers.temperature(candidates, t=0.25)
    warm = warpers.temperature(candidates, t=4.0)
    assert (
        warpers.top_n_sigma(cooled, n=1.5).ids.tolist()
        == warpers.top_n_sigma(warm, n=1.5).ids.tolist()
    )


@pytest.mark.parametrize(("a", "kept"), [(0.0, [0, 1, 2, 3]), (0.3, [0, 1, 2]), (0.9, [0, 1])])
def test_top_a_by_hand(a: float, kept: list[int]) -> None:
    """The best has 0.5, its square is 0.25: at least 0.075, at least 0.225."""
    assert warpers.top_a(of(0.5, 0.3, 0.15, 0.05), a=a).ids.tolist() == kept


@given(logits=rows, a=st.floats(0.01, 1))
@settings(max_examples=200, deadline=None)
def test_top_a_is_its_authors(logits: np.ndarray, a: float) -> None:
    p = weights(logits)
    limit = a * p.max() ** 2
    assume(np.abs(p / limit - 1).min() > 1e-4)
    kept = warpers.top_a(Candidates.of(logits), a=a)
    assert kept.ids.tolist() == np.flatnonzero(p >= limit).tolist()


@pytest.mark.parametrize(
    ("z", "kept"),
    [(0.0, [1, 3]), (0.5, [1, 3]), (0.75, [1, 3, 4]), (0.9, [0, 1, 3, 4]), (1.0, [0, 1, 2, 3, 4])],
)
def test_tail_free_by_hand(z: float, kept: list[int]) -> None:
    """Falling 0.5 0.25 0.15 0.07 0.03: differences 0.25 0.1 0.08 0.04, of those 0.15 0.02 0.04.

    Of 0.21 the first is 0.71, the first two are 0.81. The middle token of the bend at which the
    sum exceeds z is the last to stay: 0.71 exceeds 0.5, and the second token is the last.
    """
    candidates = of(0.07, 0.5, 0.03, 0.25, 0.15)
    assert warpers.tail_free(candidates, z=z).ids.tolist() == kept


@given(logits=rows, z=st.floats(0.01, 0.99))
@settings(max_examples=300, deadline=None)
def test_tail_free_is_its_authors(logits: np.ndarray, z: float) -> None:
    """The steps of the author's program, on values in falling order."""
    p = np.sort(weights(logits))[::-1]
    assume(len(p) > 2)
    bends = np.abs(np.diff(np.diff(p)))
    assume(bends.sum() > 1e-6)
    share = np.cumsum(bends / bends.sum())
    assume(np.abs(share - z).min() > 1e-4)
    tail = p[np.argmax(share > z) + 1]
    kept = warpers.tail_free(Candidates.of(logits), z=z)
    assert kept.ids.tolist() == np.flatnonzero(weights(logits) >= tail * (1 - 1e-9)).tolist()


def test_tail_free_goes_on_while_z_is_only_reached() -> None:
    """Two tokens alike and two others: both bends have half of the sum."""
    candidates = Candidates.of(np.array([0, -1, 0, -1], np.float32))
    assert warpers.tail_free(candidates, z=0.49).ids.tolist() == [0, 2]
    assert warpers.tail_free(candidates, z=0.5).ids.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("logits", [[1.0], [1.0, 3.0], [2.0] * 50])
def test_tail_free_keeps_what_has_no_bend(logits: list[float]) -> None:
    candidates = Candidates.of(np.array(logits, np.float32))
    assert warpers.tail_free(candidates, z=0.1).ids.tolist() == list(range(len(logits)))


def test_dynamic_temperature_by_hand() -> None:
    """Two tokens of 3/4 and 1/4: 0.5623 nats of log 2, so 0.8113 of the way from 0.5 to 1.5."""
    candidates = of(0.75, 0.25)
    evenness = (0.75 * np.log(4 / 3) + 0.25 * np.log(4)) / np.log(2)
    warped = warpers.dynamic_temperature(candidates, low=0.5, high=1.5)
    np.testing.assert_allclose(warped.logits, candidates.logits / (0.5 + evenness), rtol=1e-6)
    squared = warpers.dynamic_temperature(candidates, low=0.5, high=1.5, exponent=2)
    np.testing.assert_allclose(squared.logits, candidates.logits / (0.5 + evenness**2), rtol=1e-6)


@given(logits=rows, low=st.floats(0.01, 2), width=st.floats(0, 3), exponent=st.floats(0.1, 4))
@settings(max_examples=200, deadline=None)
def test_dynamic_temperature_is_its_authors(
    logits: np.ndarray, low: float, width: float, exponent: float
) -> None:
    p = weights(logits)
    # A token all but certain leaves an entropy that float32 barely holds.
    assume(len(logits) > 1 and p.max() < 0.999)
    entropy = -sum(share * np.log(share) for share in p if share > 0)
    t = low + width * (entropy / np.log(len(p))) ** exponent
    warped = warpers.dynamic_temperature(
        Candidates.of(logits), low=low, high=low + width, exponent=exponent
    )
    np.testing.assert_allclose(warped.logits, logits / t, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("logits", [[3.0], [-5.0, 60.0], [-5.0, 400.0, -np.inf], [0.0, 0.0]])
def test_dynamic_temperature_may_go_down_to_zero(logits: list[float]) -> None:
    candidates = Candidates.of(np.array(logits, np.float32))
    warped = warpers.dynamic_temperature(candidates, low=0.0, high=1.0)
    best = candidates.logits == candidates.logits.max()
    np.testing.assert_allclose(warped.probabilities(), best / best.sum(), atol=1e-6)


def test_quadratic_by_hand() -> None:
    """At distances 1 and 3 below the largest: 0.2 d² with a curve of 1, 0.3 d³ with one of 3."""
    candidates = Candidates.of(np.array([5, 4, 2], np.float32))
    np.testing.assert_allclose(warpers.quadratic(candidates, factor=0.2).logits, [5, 4.8, 3.2])
    cubic = warpers.quadratic(candidates, factor=0.3, curve=3)
    np.testing.assert_allclose(cubic.logits, [5, 4.7, -3.1], rtol=1e-6)


def test_quadratic_of_the_most_extreme_logits() -> None:
    least, most = np.finfo(np.float32).min, np.finfo(np.float32).max
    candidates = Candidates(np.arange(3), np.array([least, most, -np.inf], np.float32))
    warped = warpers.quadratic(candidates, factor=1e29, curve=1e29)
    assert warped.logits.tolist() == [least, most, -np.inf]


NEWER = [
    partial(warpers.quadratic, factor=0.3, curve=2.0),
    partial(warpers.top_n_sigma, n=1.0),
    partial(warpers.tail_free, z=0.9),
    partial(warpers.top_a, a=0.2),
    partial(warpers.dynamic_temperature, low=0.5, high=1.5),
]


@pytest.mark.parametrize("warper", NEWER, ids=lambda warper: warper.func.__name__)
def test_newer_warpers_pass_over_candidates_of_weight_zero(warper: Warper) -> None:
    logits = row(1000, 1, masked=True)
    everything = warper(Candidates(np.arange(1000), logits))
    possible = warper(Candidates.of(logits))
    index = everything.logits > -np.inf
    np.testing.assert_array_equal(everything.ids[index], possible.ids)
    np.testing.assert_allclose(everything.logits[index], possible.logits, rtol=1e-5)


@pytest.mark.parametrize("warper", NEWER, ids=lambda warper: warper.func.__name__)
@given(
    logits=arrays(np.float32, st.integers(1, 80), elements=st.floats(-100, 100, width=32)),
)
@settings(max_examples=40, deadline=None)
def test_newer_warpers_keep_the_best_and_change_nothing_given(
    warper: Warper, logits: np.ndarray
) -> None:
    before = logits.copy()
    kept = warper(Candidates.of(logits))
    np.testing.assert_array_equal(logits, before)
    assert logits.argmax() in kept.ids
    assert (np.diff(kept.ids) > 0).all()
    assert kept.logits.dtype == np.float32
    np.testing.assert_allclose(kept.probabilities().sum(), 1, rtol=1e-5)
