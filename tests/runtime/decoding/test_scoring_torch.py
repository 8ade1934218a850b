"""Scores beside PyTorch's log-probabilities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from gpt2onnx import Model
from gpt2onnx.runtime.engine.score import score
from tests.checkpoints import END_OF_TEXT_ID
from tests.runtime.decoding.test_scoring import IDS, TEXT

N_POSITIONS = 64


def loss(reference: Any, ids: list[int]) -> float:
    """transformers' mean negative log-likelihood of ids[1:]."""
    tensor = torch.tensor([ids])
    with torch.inference_mode():
        return float(reference(tensor, labels=tensor).loss)


def test_perplexity_is_exp_of_transformers_loss(model: Model, reference: Any) -> None:
    ids = list(TEXT.encode())
    with_bos = model.score(TEXT)
    assert with_bos.token_ids == model.tokenizer.encode(TEXT).ids
    ids = with_bos.token_ids
    assert with_bos.perplexity == pytest.approx(
        math.exp(loss(reference, [END_OF_TEXT_ID, *ids])), rel=1e-4
    )
    without = model.score(TEXT, add_bos=False)
    assert without.token_ids == ids[1:]
    assert without.perplexity == pytest.approx(math.exp(loss(reference, ids)), rel=1e-4)


def by_windows(reference: Any, ids: np.ndarray, stride: int) -> list[float]:
    """The same windows, one after another, all of each computed by transformers."""
    logprobs: list[float] = []
    for start in range(0, len(ids) - 1, stride):
        window = torch.from_numpy(ids[start : start + N_POSITIONS])
        targets = ids[start + 1 : start + N_POSITIONS + 1]
        with torch.inference_mode():
            rows = reference(window[None]).logits[0].log_softmax(-1)
        new = range(len(logprobs) - start, len(targets))
        logprobs += [float(rows[n, targets[n]]) for n in new]
    return logprobs


@pytest.mark.parametrize("stride", [None, 1, 7, 32, 63, 64])
@pytest.mark.parametrize("length", [2, 64, 65, 66, 200])
def test_a_long_text_by_windows(
    model: Model, reference: Any, length: int, stride: int | None
) -> None:
    ids = IDS[:length]
    expected = by_windows(reference, ids, stride or N_POSITIONS // 2)
    assert len(expected) == length - 1
    np.testing.assert_allclose(score(model.decoder, ids, stride), expected, atol=1e-4)
