"""Activations beside transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.activations import ACT2FN

from gpt2onnx.export.checkpoint import config
from gpt2onnx.export.graph.activations import ACTIVATIONS
from gpt2onnx.export.writing.onnx_builder import GraphBuilder
from tests.export.small_graph import run

# Where functions bend, where they are clipped, and where exponentials run out.
X = np.concatenate([np.linspace(-12, 12, 481), [-1e4, -100, -0.0, 100, 1e4]]).astype(np.float32)
TOLERANCE = {np.float32: 1e-5, np.float16: 4e-3}


def test_every_activation_that_the_config_accepts_has_operators() -> None:
    assert ACTIVATIONS.keys() == config.ACTIVATIONS


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_activations_equal_transformers(tmp_path: Path, dtype: type[np.floating[Any]]) -> None:
    names = sorted(ACTIVATIONS)

    def build(op: GraphBuilder) -> list[str]:
        return [op.Identity(ACTIVATIONS[name](op, "x", np.dtype(dtype))) for name in names]

    x = X.astype(dtype)
    if dtype == np.float16:
        x = x[np.abs(x) <= 200]  # relu2 of more has no half
    for name, found in zip(names, run(tmp_path, build, x=x), strict=True):
        expected = ACT2FN[name](torch.from_numpy(x.astype(np.float32))).numpy()
        tolerance = TOLERANCE[dtype]
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=name)
