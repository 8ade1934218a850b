"""Mirostat's formulas worked by hand, its loop, and what it is for: the surprise that was asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gpt2onnx.samplers import Candidates, GenerationParams, Sampler, generator
from gpt2onnx.samplers.mirostat import Mirostat, top_surprise, zipf_top_k


def logprobs(weights: np.ndarray) -> Candidates:
    return Candidates.of(np.log(weights / weights.sum()).astype(np.float32))


def zipf(n: int, s: float) -> np.ndarray:
    return np.arange(1, n + 1, dtype=np.float64) ** -s


@pytest.mark.parametrize(
    ("mu", "kept"), [(3.5, [0, 1, 2, 3]), (2.5, [0, 2]), (1.5, [2]), (0.5, [2]), (-7.0, [2])]
)
def test_top_surprise_by_hand(mu: float, kept: list[int]) -> None:
    """Surprises of 2, 3, 1 and 3 bits."""
    candidates = logprobs(np.array([0.25, 0.125, 0.5, 0.125]))
    assert top_surprise(candidates, mu=mu).ids.tolist() == kept


@pytest.mark.parametrize(
    ("n", "s", "mu", "k"),
    [
        # s = 1: k = 2^mu / ln n = 64 / 6.908 = 9.26
        (1000, 1.0, 6.0, 9 + 1),
        # s = 2: k = (2^mu / (1 - 1/n))^(1/2) = sqrt(64 / 0.999) = 8.004
        (1000, 2.0, 6.0, 8 + 1),
        # s = 1/2: k = (2^mu / 2 / (sqrt(n) - 1))^2 = (128 / 99)^2 = 1.67
        (10_000, 0.5, 8.0, 2 + 1),
        # a negative limit keeps one
        (1000, 1.0, -3.0, 0 + 1),
        # a limit beyond log2 n keeps all
        (1000, 1.0, 40.0, 1000),
    ],
)
def test_zipf_top_k_by_hand(n: int, s: float, mu: float, k: int) -> None:
    assert zipf_top_k(logprobs(zipf(n, s)), mu=mu).ids.tolist() == list(range(k))


def reference_k(weights: np.ndarray, mu: float) -> float:
    """Algorithm 1 of the paper, step by step, in float64: k before it is rounded, n at most."""
    p = sorted(weights / weights.sum(), reverse=True)
    m = min(100, len(p))
    t = [math.log((i + 1) / i) for i in range(1, m)]
    b = [math.log(p[i - 1] / p[i]) for i in range(1, m)]
    s = sum(x * y for x, y in zip(t, b, strict=True)) / sum(x * x for x in t)
    epsilon = s - 1
    log_k = math.log((epsilon * 2**mu) / (1 - len(p) ** -epsilon)) / s
    return math.exp(min(log_k, math.log(len(p))))


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 400),
    spread=st.floats(0.3, 3),
    mu=st.floats(0.5, 12),
)
@example(seed=2572, n=2, spread=0.3125, mu=8.0)  # all but flat: the k of the formula is 6e319
@settings(max_examples=150, deadline=None)
def test_zipf_top_k_is_the_papers(seed: int, n: int, spread: float, mu: float) -> None:
    weights = np.exp(np.random.default_rng(seed).normal(0, spread, n))
    k = reference_k(weights, mu)
    assume(abs(k % 1 - 0.5) > 1e-3)  # float32 may round the other way
    kept = zipf_top_k(logprobs(weights), mu=mu).ids
    assert kept.tolist() == sorted(np.argsort(-weights)[: min(round(k) + 1, n)].tolist())


@pytest.mark.parametrize("truncate", [top_surprise, zipf_top_k])
@pytest.mark.parametrize("weights", [[1.0], [1, 1], [1] * 300, [1, 1e-30], [1.0] + [1e-9] * 200])
@pytest.mark.parametrize("mu", [-1e6, -1.0, 0.0, 3.0, 1e6])
def test_keeps_something_of_every_distribution(
    truncate: object, weights: list[float], mu: float
) -> None:
    kept = truncate(logprobs(np.array(weights)), mu=mu)  # type: ignore[operator]
    assert 0 in kept.ids
    if mu == 1e6:
        assert len(kept.ids) == len(weights)


@pytest.mark.parametrize("mode", [1, 2])
def test_the_limit_follows_the_surprise_of_what_was_drawn(mode: int) -> None:
    """mu starts at 2 tau, and every token takes eta * (surprise - tau) from it."""
    params = GenerationParams(
        do_sample=True, mirostat_mode=mode, mirostat_tau=2.0, mirostat_eta=0.5, temperature=0.8
    )
    sampler, rng = Sampler(params, 1, 0, generator(4, 0)), np.random.default_rng(0)
    mu = 4.0
    for _ in range(40):
        logits = rng.normal(0, 2, 50).astype(np.float32)
        weights = np.exp(logits.astype(np.float64) / 0.8)
        surprise = -np.log2(weights / weights.sum())
        kept = sampler.candidates(np.array([0]), logits).ids
        if mode == 2:
            assert set(np.flatnonzero(surprise < mu - 1e-3)) <= set(kept)
            assert set(kept) <= {*np.flatnonzero(surprise < mu + 1e-3), surprise.argmin()}
        choice = sampler.sample(np.array([0]), logits)
        assert choice.token in kept
        among_kept = weights[choice.token] / weights[kept].sum()
        assert choice.processed_logprob == pytest.approx(math.log(among_kept), abs=1e-4)
        mu -= 0.5 * (surprise[choice.token] - 2.0)
        assert sampler._mirostat is not None
        assert sampler._mirostat.mu == pytest.approx(mu, abs=1e-4)


def test_looking_at_the_candidates_changes_nothing() -> None:
    params = GenerationParams(do_sample=True, mirostat_mode=2, seed=1)
    logits = np.linspace(0, 5, 100, dtype=np.float32)
    watched, alone = (Sampler(params, 1, 0, generator(1, 0)) for _ in range(2))
    for _ in range(10):
        watched.candidates(np.array([0]), logits)
        assert watched(np.array([0]), logits) == alone(np.array([0]), logits)


def test_defaults_are_five_bits_and_a_tenth() -> None:
    state = Mirostat(2)
    assert state.mu == 10.0
    state.observe(-7 * math.log(2))
    assert state.mu == pytest.approx(10.0 - 0.1 * (7 - 5))


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("tau", [2.5, 3.5, 4.5])
def test_the_text_has_the_surprise_that_was_asked_for(mode: int, tau: float) -> None:
    """What the paper promises, on distributions of 4 to 7 bits, the best token of 1.4 to 2.3."""
    params = GenerationParams(
        do_sample=True, mirostat_mode=mode, mirostat_tau=tau, mirostat_eta=0.5
    )
    sampler, rng = Sampler(params, 1, 0, generator(0, 0)), np.random.default_rng(1)
    surprises = []
    for _ in range(600):
        logits = np.log(zipf(2000, rng.uniform(1.2, 1.5))).astype(np.float32)
        surprises.append(-sampler.sample(np.array([0]), logits).logprob / math.log(2))
    assert np.mean(surprises) == pytest.approx(tau, abs=0.1)
