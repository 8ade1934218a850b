"""Runs a BeamSearch on a rule, without rows, and finds all sequences of a small vocabulary."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gpt2onnx.samplers import BeamSearch, GenerationParams, log_softmax

Rule = Callable[[tuple[int, ...]], np.ndarray]


def search(
    rule: Rule,
    prompt: Sequence[int],
    *,
    index: int = 0,
    room: int = 100,
    stops: Callable[[np.ndarray], bool] = lambda written: False,
    **parameters: Any,
) -> BeamSearch:
    """A search that is over."""
    found = BeamSearch(GenerationParams(**parameters), np.array(prompt), index, room, stops)
    while found.running:
        found.advance(logits(rule, found))
    return found


def logits(rule: Rule, search: BeamSearch) -> np.ndarray:
    return np.stack([rule(tuple(each.tokens.tolist())) for each in search.running])


def written(search: BeamSearch) -> list[list[int]]:
    """The new tokens of the best."""
    return [each.hypothesis.tokens[len(search.prompt) :].tolist() for each in search.best()]


def scores(search: BeamSearch) -> list[float]:
    return [each.score for each in search.best()]


def assert_ranked(found: list[list[int]], expected: dict[tuple[int, ...], float]) -> None:
    """All that is expected was found, best first; equal scores, as far as float32 tells, tie."""
    ranked = [expected[tuple(tokens)] for tokens in found]
    assert len(found) == len(expected)
    assert len({tuple(tokens) for tokens in found}) == len(expected)
    assert all(next_ <= score + 1e-4 for score, next_ in itertools.pairwise(ranked))


def every_sequence(
    rule: Rule, prompt: Sequence[int], max_new_tokens: int, eos: Sequence[int] = ()
) -> Iterator[tuple[list[int], float]]:
    """All that can be written, up to an end token or the limit, with its log-probability."""
    beginnings: list[tuple[list[int], float]] = [([], 0.0)]
    for length in range(1, max_new_tokens + 1):
        longer = [
            ([*tokens, token], score + float(logprob))
            for tokens, score in beginnings
            for token, logprob in enumerate(log_softmax(rule((*prompt, *tokens))))
        ]
        yield from (each for each in longer if each[0][-1] in eos or length == max_new_tokens)
        beginnings = [each for each in longer if each[0][-1] not in eos]
