"""Log-probabilities against torch."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import entropy, log_softmax, top_logprobs


def test_log_softmax_of_extremes() -> None:
    logits = np.array([-np.inf, 1e30, -1e30, 1e30], np.float32)
    np.testing.assert_allclose(log_softmax(logits), [-np.inf, -np.log(2), -2e30, -np.log(2)], 1e-6)


def test_top_logprobs_puts_the_lower_of_equals_first() -> None:
    logits = np.random.default_rng(0).integers(0, 4, 300).astype(np.float32)
    ids, _ = top_logprobs(logits, 300)
    np.testing.assert_array_equal(ids, np.argsort(-logits, kind="stable"))


@pytest.mark.parametrize("count", [0, 6])
def test_top_logprobs_refuses_more_than_there_are(count: int) -> None:
    with pytest.raises(ParameterError, match=f"top_logprobs={count}: expected 1 to 5"):
        top_logprobs(np.zeros(5, np.float32), count)


@pytest.mark.parametrize(
    ("logits", "nats"),
    [([3, 3, 3, 3], np.log(4)), ([5, -np.inf, 5], np.log(2)), ([0, -np.inf], 0), ([1e30, 0], 0)],
)
def test_entropy_by_hand(logits: list[float], nats: float) -> None:
    assert entropy(np.array(logits, np.float32)) == pytest.approx(nats, abs=1e-6)
