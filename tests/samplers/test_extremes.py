"""Values at the ends of what parameters may be: numbers stay numbers, and nothing warns."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2onnx.samplers import GenerationParams, Sampler, generator
from gpt2onnx.samplers.candidates import LARGEST, Candidates, bounded
from gpt2onnx.samplers.dry import dry
from gpt2onnx.samplers.mirostat import Mirostat
from gpt2onnx.samplers.penalties import logit_bias, repetition_penalty
from gpt2onnx.samplers.warpers import dynamic_temperature, temperature, top_n_sigma, typical_p

LOGITS = np.array([3.0, 1.0, -2.0, 0.0], np.float32)
HISTORY = np.array([0, 2, 3])


def test_bounded_keeps_what_is_forbidden() -> None:
    before = np.array([1.0, 1.0, 5.0, -1.0, -1.0, -np.inf])
    after = np.array([np.inf, 1e36, 5, -1e36, -np.inf, -np.inf])
    assert bounded(after, before).tolist() == [LARGEST, LARGEST, 5, -LARGEST, -LARGEST, -np.inf]


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [(1e30, [3e-30, 1, -2e30, 0]), (1e-30, [3e30, 1, -2e-30, 0]), (2.0, [1.5, 1, -4, 0])],
)
def test_repetition_penalty(penalty: float, expected: list[float]) -> None:
    penalized = repetition_penalty(HISTORY, LOGITS, penalty=penalty)
    np.testing.assert_allclose(penalized, expected, rtol=1e-6)
    again = repetition_penalty(HISTORY, penalized, penalty=penalty)
    assert np.isfinite(again).all()


def test_logit_bias() -> None:
    ids, values = np.array([0, 1]), np.array([LARGEST, -LARGEST], np.float32)
    once = logit_bias(HISTORY, LOGITS, ids=ids, values=values)
    twice = logit_bias(HISTORY, once, ids=ids, values=values)
    np.testing.assert_array_equal(twice[:2], values)


def test_temperatures() -> None:
    candidates = Candidates.of(LOGITS)
    assert temperature(candidates, t=1e300).logits.tolist() == pytest.approx([0] * 4, abs=1e-30)
    far = Candidates.of(np.array([1e30, 1.0, -1e30], np.float32))
    cold = temperature(far, t=1e-30).logits
    np.testing.assert_allclose(cold, [LARGEST, 1e30, -LARGEST], rtol=1e-6)
    even = Candidates.of(np.zeros(7, np.float32))
    for exponent in (1e-300, 1e300):
        warped = dynamic_temperature(even, low=0.0, high=1e300, exponent=exponent)
        assert warped.logits.tolist() == [0] * 7


def test_top_n_sigma() -> None:
    far = Candidates.of(np.array([1e30, 1.0, -1e30], np.float32))
    assert top_n_sigma(far, n=1.0).ids.tolist() == [0, 1]  # the deviation is 1e30
    assert top_n_sigma(far, n=1e300).ids.tolist() == [0, 1, 2]
    assert top_n_sigma(Candidates.of(LOGITS), n=0).ids.tolist() == [0]


def test_typical_p() -> None:
    logits = np.zeros(2000, np.float32)
    logits[5] = -3e38  # whose distance leaves float32 where it is counted in bins
    kept = typical_p(Candidates.of(logits), p=0.9)
    assert kept.ids.tolist() == [*range(5), *range(6, 2000)]


def test_dry() -> None:
    history = np.array([0, 1, 0, 1, 0])
    for multiplier, base in ((1e-300, 1.75), (1e29, 1e29), (0.8, 1 + 1e-15)):
        penalized = dry(
            history, LOGITS, multiplier=multiplier, base=base, breakers=np.empty(0, np.int64)
        )
        assert np.isfinite(penalized).all()


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("tau", [1e-300, 1e300])
@pytest.mark.parametrize("eta", [1e-300, 1e300])
def test_mirostat(mode: int, tau: float, eta: float) -> None:
    state = Mirostat(mode, tau, eta)
    for _ in range(4):
        kept = state.warp(Candidates.of(LOGITS))
        assert len(kept.ids) >= 1
        state.observe(float(kept.logits[0]))
        assert abs(state.mu) <= LARGEST


@pytest.mark.parametrize("bias", [1e38, -3.4e38, 1e300])
def test_a_sampler_of_extremes(bias: float) -> None:
    params = GenerationParams(
        do_sample=True, logit_bias={1: bias}, repetition_penalty=1e30, temperature=1e-30, seed=0
    )
    sampler = Sampler(params, 3, 0, generator(0, 0))
    # Token 2's logit is negative, and moved away; those of 0 and 3 are 3e-30 / 1e-30, and 0.
    assert sampler.sample(HISTORY, LOGITS).token in ([1] if bias > 0 else [0, 3])
