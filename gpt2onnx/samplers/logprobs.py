"""Log-probabilities of a row of logits, as the model gave it: before penalties and warpers.

What a caller reports or scores with. Knows nothing of how a token was chosen.
"""

from __future__ import annotations

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.samplers.candidates import FloatArray, IntArray


def log_softmax(logits: FloatArray) -> FloatArray:  # [..., vocab] -> [..., vocab]
    """log(softmax(logits)), safe from overflow. Each row needs a finite logit; -inf stays -inf."""
    shifted: FloatArray = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def token_logprobs(logits: FloatArray, ids: IntArray) -> FloatArray:  # [..., vocab], [...] -> [...]
    """The log-probability of one token in each row."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, ids[..., None], axis=-1)[..., 0]
    logprobs: FloatArray = chosen - np.log(np.exp(shifted, out=shifted).sum(axis=-1))
    return logprobs


def token_logprob(logits: FloatArray, token: int) -> float:  # [vocab]
    """The log-probability of one token in one row, as `token_logprobs`, which loses time on one."""
    shifted = logits - logits.max()
    chosen = shifted[token]
    return float(chosen - np.log(np.exp(shifted, out=shifted).sum()))


def entropy(logits: FloatArray) -> FloatArray:  # [..., vocab] -> [...]
    """Of softmax(logits), in nats: Shannon, 1948. What -inf rules out counts nothing."""
    logprobs = log_softmax(logits)
    probabilities = np.exp(logprobs)
    np.maximum(logprobs, np.finfo(logprobs.dtype).min, out=logprobs)  # 0 * -inf would be NaN
    nats: FloatArray = -(probabilities * logprobs).sum(axis=-1)
    return np.maximum(nats, 0)


def top_logprobs(logits: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
    """Ids and log-probabilities of the most probable tokens: two `[..., count]` of `[..., vocab]`.

    The most probable comes first. Raises ParameterError where the vocabulary has fewer tokens.
    """
    vocab = logits.shape[-1]
    if not 1 <= count <= vocab:
        raise ParameterError(
            Given("top_logprobs", count), f": expected 1 to {vocab}, the model's vocabulary"
        )
    logprobs = log_softmax(logits)
    ids = np.argpartition(logprobs, vocab - count, axis=-1)[..., vocab - count :]
    ids.sort(axis=-1)  # so that the stable sort below puts the lower id first among equals
    order = np.argsort(-np.take_along_axis(logprobs, ids, axis=-1), axis=-1, kind="stable")
    ids = np.take_along_axis(ids, order, axis=-1)
    return ids, np.take_along_axis(logprobs, ids, axis=-1)
