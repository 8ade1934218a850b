"""Penalties and constraints: functions of the history and the logits.

Pure functions `(history, logits, …) -> logits`: history is prompt and generated ids, int64 `[n]`,
logits one row, float32 `[vocab]`. They return a new row, or the same one where nothing changes, and
never write to what they get. Those that change few logits are told by that change, for which they
need not see the row. They know nothing of chance, of parameters, or of each other; `chain` puts
them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gpt2onnx.errors import Given, ParameterError, shown
from gpt2onnx.samplers.callbacks import ask
from gpt2onnx.samplers.candidates import (
    LARGEST,
    FloatArray,
    IntArray,
    bounded,
    first_of_each,
    within,
)
from gpt2onnx.samplers.changes import Change, SparsePenalty

Penalty = Callable[[IntArray, FloatArray], FloatArray]
AllowedTokens = Callable[[int, IntArray], Sequence[int] | IntArray]


@SparsePenalty
def logit_bias(
    history: IntArray, vocab_size: int, *, ids: IntArray, values: FloatArray
) -> Change:  # [n], [k], [k]
    """Adds `values` to the logits of `ids`: transformers' sequence_bias for single tokens."""
    return Change(ids, lambda before: bounded(before + values, before))


@SparsePenalty
def repetition_penalty(history: IntArray, vocab_size: int, *, penalty: float) -> Change:  # [n]
    """Divides the positive logits of the history's tokens by `penalty`, multiplies negative ones.

    CTRL, Keskar et al., 1909.05858.
    """

    bound = LARGEST * min(penalty, 1 / penalty)
    moved = np.minimum if penalty > 1 else np.maximum  # of both the one that is further down, or up

    def changed(before: FloatArray) -> FloatArray:  # [n] -> [n]
        if within(before, bound):
            after: FloatArray = moved(before * penalty, before / penalty)
            return after
        with np.errstate(over="ignore"):
            return bounded(np.where(before < 0, before * penalty, before / penalty), before)

    return Change(history, changed)


@SparsePenalty
def frequency_presence_penalty(
    history: IntArray, vocab_size: int, *, prompt_length: int, frequency: float, presence: float
) -> Change | None:  # [n]
    """logit - count * frequency - (count > 0) * presence, counted over the generated tokens alone.

    OpenAI's definition (API reference, "frequency and presence penalties"), and vLLM's.
    """
    ids = history[prompt_length:]
    if not len(ids):
        return None
    if not frequency:  # presence takes the same, however often they come
        return Change(ids, lambda before: before - presence)
    ascending = np.sort(ids)
    first = first_of_each(ascending).nonzero()[0]
    counts = np.concatenate([first[1:], [len(ids)]]) - first
    penalty = counts * frequency + presence
    return Change(ascending[first], lambda before: before - penalty.astype(before.dtype))


@SparsePenalty
def no_repeat_ngram(history: IntArray, vocab_size: int, *, size: int) -> Change | None:  # [n]
    """Forbids each token that would complete an n-gram of `size` that the history already holds."""
    if len(history) < size:
        return None
    followed = np.arange(size - 1, len(history))  # tokens that `size` - 1 others precede
    for back in range(1, size):
        followed = followed[history[followed - back] == history[-back]]
    return forbid(history[followed])


@SparsePenalty
def bad_words(
    history: IntArray, vocab_size: int, *, words: Sequence[IntArray]
) -> Change | None:  # [n], of each length L: [words, L]
    """Forbids the last token of each word whose other tokens end the history.

    `words` come from `by_length`. transformers overlooks a word of L tokens while the whole history
    is only L - 1 tokens long; this doesn't.
    """
    banned = [
        group[(group[:, :-1] == history[len(history) - group.shape[1] + 1 :]).all(axis=1), -1]
        for group in words
        if group.shape[1] <= len(history) + 1
    ]
    return forbid(np.concatenate(banned)) if banned else None


def by_length(words: Sequence[Sequence[int]]) -> list[IntArray]:  # of each length L: [words, L]
    """Token sequences as one matrix for each length, so that one comparison takes them all."""
    lengths = sorted({len(word) for word in words})
    return [np.array([w for w in words if len(w) == length], np.int64) for length in lengths]


@SparsePenalty
def suppress(history: IntArray, vocab_size: int, *, ids: IntArray) -> Change | None:  # [n], [k]
    """Forbids `ids` at every step."""
    return forbid(ids)


@SparsePenalty
def suppress_at(
    history: IntArray, vocab_size: int, *, ids: IntArray, length: int
) -> Change | None:  # [n], [k]
    """Forbids `ids` at the one step whose history is `length` tokens long."""
    return forbid(ids) if len(history) == length else None


@SparsePenalty
def min_length(
    history: IntArray, vocab_size: int, *, length: int, eos_token_ids: IntArray
) -> Change | None:  # [n], [k]
    """Forbids the end tokens until the history is `length` tokens long.

    End tokens that the vocabulary doesn't have are passed over: many fine-tunes keep GPT-2's 50256
    beside a small one.
    """
    if len(history) >= length:
        return None
    return forbid(eos_token_ids[eos_token_ids < vocab_size])


def force_at(
    history: IntArray, logits: FloatArray, *, ids: IntArray, length: int
) -> FloatArray:  # [n], [vocab], [k] -> [vocab]
    """Leaves only `ids`, all alike, at the one step whose history is `length` tokens long."""
    if len(history) != length:
        return logits
    forced = np.full_like(logits, -np.inf)
    forced[ids] = 0
    return forced


def prefix_allowed_tokens(
    history: IntArray, logits: FloatArray, *, allowed_fn: AllowedTokens, sequence_index: int
) -> FloatArray:  # [n], [vocab] -> [vocab]
    """Leaves only the ids that `allowed_fn(sequence_index, history)` returns (GENRE, 2010.00904).

    Raises ParameterError where it returns none, or something that isn't token ids of this
    vocabulary.
    """
    answer = ask(allowed_fn, sequence_index, history)
    try:
        allowed = np.asarray(answer)
    except ValueError:  # lists of several lengths
        allowed = np.empty(0)
    if allowed.ndim != 1 or not len(allowed) or allowed.dtype.kind not in "iu":
        raise ParameterError(
            Given("prefix_allowed_tokens_fn"),
            f" returned {shown(answer)} for sequence {sequence_index}: expected a non-empty list "
            "of token ids; where nothing may follow, return the end token",
        )
    if allowed.min() < 0 or allowed.max() >= len(logits):
        raise ParameterError(
            Given("prefix_allowed_tokens_fn"),
            f" returned ids from {allowed.min()} to {allowed.max()}: expected ids from 0 to "
            f"{len(logits) - 1}, the model's vocabulary",
        )
    masked = np.full_like(logits, -np.inf)
    masked[allowed] = logits[allowed]
    return masked


def forbid(ids: IntArray) -> Change | None:  # [k]
    """The logits of `ids` at -inf."""
    return Change(ids, lambda before: -np.inf) if len(ids) else None
