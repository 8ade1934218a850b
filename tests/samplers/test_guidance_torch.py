"""Guided logits beside transformers' processor."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gpt2onnx.samplers.guidance import guide
from tests.samplers.test_guidance import CONDITIONAL, UNCONDITIONAL


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.5, 7.0])
def test_is_what_transformers_computes(scale: float) -> None:
    import torch
    from transformers.generation import logits_process as process

    class Answers(SimpleNamespace):
        def get(self, name: str, default: object) -> object:
            return default

    wanted = process.UnbatchedClassifierFreeGuidanceLogitsProcessor(
        scale, lambda *_, **__: Answers(logits=torch.tensor(UNCONDITIONAL)[:, None])
    )(torch.zeros((3, 1), dtype=torch.long), torch.tensor(CONDITIONAL))
    got = guide(CONDITIONAL, UNCONDITIONAL, scale)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-5, atol=1e-5)
