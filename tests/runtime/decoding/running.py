"""Strategies run on a decoder by the engine's loop, as `Model` does."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from gpt2onnx.runtime.decoding.beams import BeamTask, Observer
from gpt2onnx.runtime.decoding.plain import plain_tasks
from gpt2onnx.runtime.decoding.sequence import Step, TokenSequence
from gpt2onnx.runtime.engine import loop
from gpt2onnx.samplers import BeamSearch, GenerationParams


def continuations(
    prompts: Sequence[Sequence[int]],
    stops: Callable[[int], bool] = lambda token: False,
    **parameters: Any,
) -> list[TokenSequence]:
    """As Model makes them: those of one prompt stand side by side and share its array."""
    params = GenerationParams.create(parameters)
    arrays = [np.array(prompt, np.int64) for prompt in prompts]
    draws = [(array, draw) for array in arrays for draw in range(params.num_return_sequences)]
    return [TokenSequence(n, array, params, draw, stops) for n, (array, draw) in enumerate(draws)]


def run_plain(
    decoder: Any,
    sequences: Sequence[TokenSequence],
    max_time: float | None = None,
    whole: bool = True,
) -> Generator[Step, None, None]:
    return loop.run(decoder, plain_tasks(decoder, sequences, whole), max_time)


def run_strategy(
    strategy: Any, decoder: Any, sequences: Sequence[TokenSequence], max_time: float | None = None
) -> Generator[Step, None, None]:
    return loop.run(decoder, strategy.tasks(decoder, sequences), max_time)


def run_beams(
    decoder: Any,
    searches: Sequence[BeamSearch],
    max_time: float | None = None,
    observe: Observer = lambda index, logits, branches: None,
) -> None:
    tasks = [BeamTask(decoder, search, n, observe) for n, search in enumerate(searches)]
    for _ in loop.run(decoder, tasks, max_time):
        pass
