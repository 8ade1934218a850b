"""The degeneration penalty beside PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2onnx.samplers.contrastive import contrast, unit


@pytest.mark.parametrize("alpha", [0.2, 0.6, 1.0])
def test_is_the_papers_formula(alpha: float) -> None:
    import torch

    rng = np.random.default_rng(1)
    for _ in range(20):
        states = rng.normal(size=(5, 8)).astype("f")
        context = rng.normal(size=(9, 8)).astype("f")
        probabilities = rng.dirichlet(np.ones(5)).astype("f")
        cosine = torch.nn.functional.cosine_similarity(
            torch.tensor(states)[:, None], torch.tensor(context)[None], dim=-1
        )
        scores = (1 - alpha) * torch.tensor(probabilities) - alpha * cosine.max(dim=1).values
        got = contrast(probabilities, unit(states), unit(context), alpha)
        assert got == int(scores.argmax())
