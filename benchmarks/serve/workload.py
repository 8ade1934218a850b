"""Requests that come at random: mixed lengths, some with a beginning in common. Knows no server."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LENGTHS, NEW_TOKENS = (8, 400), (8, 64)
# Every second prompt begins with one of these, where it is longer.
BEGINNINGS, BEGINNING = 2, 64


class Wanted(NamedTuple):
    """A prompt, and how many tokens are to follow it, greedily."""

    prompt: list[int]
    count: int


def requests(number: int, vocab_size: int, seed: int = 0) -> list[Wanted]:
    """Random ones; lengths of prompts are log-uniform, and every seed has the same beginnings."""
    common, rng = np.random.default_rng(0), np.random.default_rng([1, seed])
    beginnings = common.integers(0, vocab_size, (BEGINNINGS, BEGINNING)).tolist()
    lengths = np.exp(rng.uniform(np.log(LENGTHS[0]), np.log(LENGTHS[1]), number)).astype(int)
    found = []
    for place, length in enumerate(lengths.tolist()):
        prompt = rng.integers(0, vocab_size, length).tolist()
        if place % 2 and length > BEGINNING:
            prompt[:BEGINNING] = beginnings[place // 2 % BEGINNINGS]
        found.append(Wanted(prompt, int(rng.integers(*NEW_TOKENS, endpoint=True))))
    return found


def poisson(number: int, rate: float, seed: int = 1) -> list[float]:
    """When requests come, `rate` a second; all at once where it is infinite."""
    gaps = np.random.default_rng(seed).exponential(1, number) / rate
    times: list[float] = np.cumsum(gaps).tolist()
    return times


def cut(wanted: list[Wanted], texts: list[list[int]], cuts: int) -> list[tuple[list[int], int]]:
    """Prompts that go on with parts of their texts, and the token that follows in each."""
    return [
        ([*prompt, *tokens[:at]], tokens[at])
        for (prompt, _), tokens in zip(wanted, texts, strict=True)
        for at in np.linspace(0, len(tokens) - 1, cuts).astype(int).tolist()
    ]
