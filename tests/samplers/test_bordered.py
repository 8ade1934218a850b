"""A draw by the border and the sums of a nucleus is the draw of all logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpt2onnx.samplers import Candidates, GenerationParams, Sampler, TopLogits, generator
from gpt2onnx.samplers.chain.shortcut import Shortcut
from gpt2onnx.samplers.cumulative import BLOCK
from gpt2onnx.samplers.spread import APART, SHARE
from tests.fake_decoder import largest

VOCAB = 5000
EXACTLY = Shortcut._exactly
HISTORY = np.array([3, 1])
TOP_P: dict[str, Any] = {"do_sample": True, "top_k": 0, "temperature": 0.8, "top_p": 0.9}


class Given:
    """Numbers in place of chance."""

    def __init__(self, *numbers: float) -> None:
        self.random = iter(numbers).__next__


def sampler(rng: Any = None, **given: Any) -> Sampler:
    return Sampler(GenerationParams(**{**TOP_P, **given}), 2, 0, rng or generator(0, 0))


def flat(seed: int, vocab: int = VOCAB) -> np.ndarray:
    return np.random.default_rng(seed).normal(-30, 0.7, vocab).astype(np.float32)


def bordered(logits: np.ndarray, kept: Candidates, error: float = 0.0) -> TopLogits:
    """What the kernels tell of a row of which top-p keeps some: sums with a relative error."""
    heated = logits / np.float32(0.8)
    weights = np.exp((heated - heated.max()).astype(np.float64))
    weights[np.setdiff1d(np.arange(len(logits)), kept.ids)] = 0
    sums = np.add.reduceat(weights, np.arange(0, len(logits), BLOCK))
    signs = np.where(np.arange(len(sums)) % 2, 1, -1)
    sums *= 1 + error * signs
    found = largest(logits, 64)
    return found._replace(sums=sums.astype(np.float32), border=logits[kept.ids].min())


def noting(looked: list[Any]) -> Callable[..., int]:
    """Shortcut's own, and each time that it is asked is noted."""

    def exactly(shortcut: Shortcut, *asked: Any) -> int:
        looked.append(asked)
        return EXACTLY(shortcut, *asked)

    return exactly


@pytest.mark.parametrize("vocab", [VOCAB, 700])  # the latter's nucleus is found by a sort
@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_same(seed: int, vocab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = flat(seed, vocab)
    ours, theirs = sampler(generator(seed, 0)), sampler(generator(seed, 0))
    kept = theirs.candidates(HISTORY, logits)
    top = bordered(logits, kept)
    looked: list[Any] = []
    for _ in range(50):
        expected = theirs.sample(HISTORY, logits)
        with monkeypatch.context() as patched:
            patched.setattr(Shortcut, "_exactly", noting(looked))
            found = ours.sample(HISTORY, logits, top)
        assert found.token == expected.token
        assert found.processed_logprob == pytest.approx(expected.processed_logprob, abs=1e-6)
        assert found.logprob == pytest.approx(expected.logprob, abs=1e-5)
    assert len(looked) <= 2  # at all of the row
    np.testing.assert_array_equal(found.candidates.ids, kept.ids)


@pytest.mark.parametrize("vocab", [VOCAB, 700])
@pytest.mark.parametrize("error", [5e-8, -5e-8])
def test_where_rounding_could_tell_otherwise_all_logits_are_asked(vocab: int, error: float) -> None:
    """Numbers next to where one token's share ends and the next one's begins."""
    logits = flat(1, vocab)
    kept = sampler().candidates(HISTORY, logits)
    ends = kept.weights.astype(np.float64).cumsum()
    ends /= ends[-1]
    top = bordered(logits, kept, error)
    for place in range(0, len(ends) - 1, len(ends) // 100):
        for number, token in ((ends[place] - 1e-9, place), (ends[place] + 1e-9, place + 1)):
            found = sampler(Given(number)).sample(HISTORY, logits, top)
            assert found.token == kept.ids[token]
    for number, token in ((0.0, 0), (np.nextafter(1, 0), -1)):
        assert sampler(Given(number)).sample(HISTORY, logits, top).token == kept.ids[token]


def test_numpys_exp_is_as_exact_as_is_counted_on() -> None:
    """4 of the 5.5 units of 2 ** -24 (see SHARE); the kernels' has the others."""
    distances = np.linspace(-87, 0, 1_000_003, dtype=np.float32)
    exact = np.exp(distances.astype(np.float64))
    assert (np.abs(np.exp(distances) - exact) <= 4 * 2.0**-24 * exact).all()
    assert (SHARE, APART) == (7 * 2.0**-24, 2.0**-27)


@pytest.mark.parametrize(
    ("given", "outside"),
    [
        ({}, 0.1),
        ({"temperature": 1.0}, 0.1),
        ({"top_p": 1.0}, 0.0),
        ({"top_p": 1e-9}, 0.0),
        ({"do_sample": False, "temperature": None, "top_k": None, "top_p": None}, 0.0),
        ({"top_k": 50}, 0.0),
        ({"min_p": 0.1}, 0.0),
        ({"sampler_order": ("top_p", "temperature"), "temperature": 1.5}, 0.0),
        ({"repetition_penalty": 1.2}, 0.0),
    ],
)
def test_it_is_asked_for_where_top_p_is_all_there_is(given: dict[str, Any], outside: float) -> None:
    assert sampler(**given).sums[1] == pytest.approx(outside)
