"""Log-probabilities against torch."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import entropy, log_softmax, token_logprobs, top_logprobs
from gpt2onnx.samplers.logprobs import token_logprob

torch = pytest.importorskip("torch")


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(-60, 5, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(17,), (3, 1000), (2, 2, 50257)])
def test_log_softmax(shape: tuple[int, ...]) -> None:
    logits = rows(*shape)
    expected = torch.log_softmax(torch.from_numpy(logits), -1).numpy()
    np.testing.assert_allclose(log_softmax(logits), expected, atol=1e-5)
    assert log_softmax(logits).dtype == np.float32


def test_log_softmax_of_extremes() -> None:
    logits = np.array([-np.inf, 1e30, -1e30, 1e30], np.float32)
    np.testing.assert_allclose(log_softmax(logits), [-np.inf, -np.log(2), -2e30, -np.log(2)], 1e-6)


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


def test_top_logprobs_puts_the_lower_of_equals_first() -> None:
    logits = np.random.default_rng(0).integers(0, 4, 300).astype(np.float32)
    ids, _ = top_logprobs(logits, 300)
    np.testing.assert_array_equal(ids, np.argsort(-logits, kind="stable"))


@pytest.mark.parametrize("count", [0, 6])
def test_top_logprobs_refuses_more_than_there_are(count: int) -> None:
    with pytest.raises(ParameterError, match=f"top_logprobs={count}: expected 1 to 5"):
        top_logprobs(np.zeros(5, np.float32), count)


@pytest.mark.parametrize("shape", [(17,), (3, 1000), (2, 2, 50257)])
def test_entropy(shape: tuple[int, ...]) -> None:
    logits = rows(*shape)
    expected = torch.distributions.Categorical(logits=torch.from_numpy(logits)).entropy().numpy()
    np.testing.assert_allclose(entropy(logits), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("logits", "nats"),
    [([3, 3, 3, 3], np.log(4)), ([5, -np.inf, 5], np.log(2)), ([0, -np.inf], 0), ([1e30, 0], 0)],
)
def test_entropy_by_hand(logits: list[float], nats: float) -> None:
    assert entropy(np.array(logits, np.float32)) == pytest.approx(nats, abs=1e-6)
