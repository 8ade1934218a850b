"""DRY: don't repeat yourself.

A penalty on tokens that would lengthen a repetition, exponential in its length. p-e-w's
(text-generation-webui, pull request 5677; llama.cpp's and koboldcpp's sampler of that name). Knows
no tokenizer: what breaks a sequence comes as token ids.
"""

from __future__ import annotations

import math

import numpy as np

from gpt2onnx.samplers.candidates import BoolArray, IntArray
from gpt2onnx.samplers.changes import Change, SparsePenalty

# Far beyond any logit, and safe in float32.
_LARGEST_PENALTY = 1e30


@SparsePenalty
def dry(
    history: IntArray,
    vocab_size: int,
    *,
    multiplier: float,
    breakers: IntArray,
    base: float = 1.75,
    allowed_length: int = 2,
    last_n: int = -1,
) -> Change | None:  # [n], [k]
    """Takes multiplier * base ** (length - allowed_length) from tokens that would repeat on.

    A token's length is that of the longest end of the history that already stands somewhere before
    this very token; tokens of a length below `allowed_length`, at least 1, go free. Looks at the
    last `last_n` tokens, -1 for all. No repetition reaches across one of `breakers`, and those are
    never penalized.
    """
    recent = history[::-1] if last_n == -1 else history[: -last_n - 1 : -1]  # the newest first
    if len(recent) < 2:
        return None
    followed = (recent[1:] == recent[0]).nonzero()[0]  # tokens that the newest one precedes
    if not len(followed):
        return None
    broken = _among(recent, breakers)
    reach = int(broken.argmax()) if broken.any() else len(recent)
    longest = min(reach, _longest_that_counts(multiplier, base, allowed_length))
    if longest < allowed_length:
        return None
    followed = followed[~broken[followed]]
    lengths = _match_lengths(recent, followed + 1, longest)
    counts = (lengths >= allowed_length).nonzero()[0]
    if not len(counts):
        return None
    # A token that occurs twice is written twice, the longer repetition last.
    order = counts[lengths[counts].argsort()]
    unbounded = multiplier * np.power(base, lengths[order] - allowed_length)
    penalty = np.minimum(unbounded, _LARGEST_PENALTY)
    return Change(recent[followed[order]], lambda before: before - penalty.astype(before.dtype))


def _among(ids: IntArray, others: IntArray) -> BoolArray:  # [n], [k] -> [n]
    """Which of the ids are among the others: np.isin in a fifth of its time, for few of both."""
    if not len(others):
        return np.zeros(len(ids), np.bool_)
    ascending = np.sort(others)
    places = np.minimum(ascending.searchsorted(ids), len(ascending) - 1)
    among: BoolArray = ascending[places] == ids
    return among


def _match_lengths(recent: IntArray, ends: IntArray, longest: int) -> IntArray:  # [n], [m] -> [m]
    """How many tokens from each of `ends` on equal those from 0 on, counted up to `longest`."""
    padded = np.full(len(recent) + longest + 1, -1)
    padded[: len(recent)] = recent
    compared = padded[: longest + 1].copy()
    compared[longest] = -2  # which nothing equals
    differs = padded[ends[:, None] + np.arange(longest + 1)] != compared  # [m, longest + 1]
    lengths: IntArray = differs.argmax(axis=1)
    return lengths


def _longest_that_counts(multiplier: float, base: float, allowed_length: int) -> int:
    """The length from which on the penalty no longer grows."""
    if base == 1:
        return allowed_length
    growth = (math.log(_LARGEST_PENALTY) - math.log(multiplier)) / math.log(base)
    return allowed_length + max(0, math.ceil(growth))
