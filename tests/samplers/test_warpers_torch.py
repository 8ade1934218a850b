"""Warpers beside transformers'."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process

from gpt2onnx.samplers import Candidates, Warper, warpers
from tests.samplers.test_warpers import PAIRS, mass, row, rows


def theirs(peer: tuple[str, float], logits: np.ndarray) -> np.ndarray:
    processor = getattr(logits_process, peer[0])(peer[1])
    return processor(torch.zeros(1, 1, dtype=torch.long), torch.from_numpy(logits)[None])[0].numpy()


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


@given(logits=rows, n=st.floats(0.1, 4))
@settings(max_examples=200, deadline=None)
def test_top_n_sigma_is_its_authors(logits: np.ndarray, n: float) -> None:
    """Tang et al.'s program, with torch's own deviation."""
    assume(len(logits) > 1)
    row = torch.from_numpy(logits).double()
    limit = row.max() - n * row.std()
    assume((row - limit).abs().min() > 1e-4)
    kept = warpers.top_n_sigma(Candidates.of(logits), n=n)
    assert kept.ids.tolist() == torch.nonzero(row >= limit)[:, 0].tolist()


@given(logits=rows, factor=st.floats(0, 10), curve=st.floats(1, 10))
@settings(max_examples=200, deadline=None)
def test_quadratic_is_its_authors(logits: np.ndarray, factor: float, curve: float) -> None:
    """As text-generation-webui has it, in float64."""
    d = torch.from_numpy(logits).double() - float(logits.max())
    expected = logits.max() - factor * ((3 - curve) / 2 * d**2 - (curve - 1) / 2 * d**3)
    warped = warpers.quadratic(Candidates.of(logits), factor=factor, curve=curve)
    np.testing.assert_allclose(warped.logits, expected.numpy(), rtol=1e-5, atol=1e-4)
