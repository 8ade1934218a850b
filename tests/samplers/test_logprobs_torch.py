"""Log-probabilities beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpt2onnx.samplers import entropy, log_softmax, token_logprobs, top_logprobs
from gpt2onnx.samplers.logprobs import token_logprob


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(-60, 5, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(17,), (3, 1000), (2, 2, 50257)])
def test_log_softmax(shape: tuple[int, ...]) -> None:
    logits = rows(*shape)
    expected = torch.log_softmax(torch.from_numpy(logits), -1).numpy()
    np.testing.assert_allclose(log_softmax(logits), expected, atol=1e-5)
    assert log_softmax(logits).dtype == np.float32


def test_token_logprobs() -> None:
    logits, ids = rows(4, 1000), np.array([0, 999, 5, 5])
    expected = torch.log_softmax(torch.from_numpy(logits), -1).numpy()[np.arange(4), ids]
    np.testing.assert_allclose(token_logprobs(logits, ids), expected, atol=1e-5)


@pytest.mark.parametrize("token", [0, 5, 999])
def test_token_logprob(token: int) -> None:
    logits = rows(1000)
    expected = torch.log_softmax(torch.from_numpy(logits), -1)[token].item()
    assert token_logprob(logits, token) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [1, 5, 300])
@pytest.mark.parametrize("shape", [(300,), (3, 300)])
def test_top_logprobs(shape: tuple[int, ...], count: int) -> None:
    logits = rows(*shape)
    values, indices = torch.log_softmax(torch.from_numpy(logits), -1).topk(count)
    ids, logprobs = top_logprobs(logits, count)
    np.testing.assert_array_equal(ids, indices.numpy())
    np.testing.assert_allclose(logprobs, values.numpy(), atol=1e-5)


@pytest.mark.parametrize("shape", [(17,), (3, 1000), (2, 2, 50257)])
def test_entropy(shape: tuple[int, ...]) -> None:
    logits = rows(*shape)
    expected = torch.distributions.Categorical(logits=torch.from_numpy(logits)).entropy().numpy()
    np.testing.assert_allclose(entropy(logits), expected, rtol=1e-4)
