"""What is timed: a prompt, and steps behind a context, of random tokens.

Knows a decoder; knows no profiler.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2onnx.flags import refusal
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.protocol import Decoder, Ids

PROMPTS = 5
# More than the profiler's record has room for.
MOST_STEPS = 100_000


@dataclass(frozen=True)
class Work:
    """What is run: prompts of random tokens, and steps that each find `context` tokens before."""

    prompt_length: int
    context: int
    steps: int

    def check(self, n_positions: int) -> None:
        """Raise ParameterError for what a model of so many positions has no room for."""
        for name, value, most in (
            ("prompt_length", self.prompt_length, n_positions),
            ("context", self.context, n_positions - 1),
        ):
            if not 1 <= value <= most:
                expected = f"1 to {most}, by the model's {n_positions} positions"
                raise refusal(name, value, expected)
        if not 1 <= self.steps <= MOST_STEPS:
            raise refusal("steps", self.steps, f"1 to {MOST_STEPS:,}")

    def prompts(self, decoder: Decoder[Any]) -> list[float]:
        """Seconds of each prompt, the first of which warms up."""
        ids = tokens(decoder, self.prompt_length)
        return [_prompt_seconds(decoder, ids) for _ in range(1 + PROMPTS)]

    def decode(self, decoder: Decoder[Any]) -> list[float]:
        """Seconds of each step, the first of which warms up."""
        ids = tokens(decoder, self.context + 1)
        return _step_seconds(decoder, ids[:-1], ids[-1:], 1 + self.steps)


def tokens(decoder: Decoder[Any], count: int) -> Ids:
    return np.random.default_rng(0).integers(0, decoder.vocab_size, count)


def _prompt_seconds(decoder: Decoder[Any], ids: Ids) -> float:
    row = decoder.new_row()
    started = time.perf_counter()
    reads.prefill(decoder, row, ids)
    seconds = time.perf_counter() - started
    decoder.free(row)
    return seconds


def _step_seconds(decoder: Decoder[Any], context: Ids, token: Ids, steps: int) -> list[float]:
    """Of each step on top of the same context."""
    decoder.reserve(1, len(context) + 1)
    row = decoder.new_row()
    reads.prefill(decoder, row, context)
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        reads.step(decoder, [row], token)
        seconds.append(time.perf_counter() - started)
        decoder.truncate(row, len(context))
    decoder.free(row)
    return seconds
