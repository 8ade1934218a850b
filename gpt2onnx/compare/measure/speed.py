"""Measures load time, time to first token, step time, memory and energy, in this process.

What is timed is `Model.stream`, what users run: tokens to text included. Knows no other run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import closing

import numpy as np
import tokenizers

from gpt2onnx.compare.measure import memory
from gpt2onnx.compare.measure.job import Job
from gpt2onnx.compare.measure.meter import Meter
from gpt2onnx.compare.measure.opening import open_model
from gpt2onnx.compare.record.runs import Energy, Memory, Speed, Steps
from gpt2onnx.runtime.model import Model
from gpt2onnx.tokenizer.codec import encode

# So long that a counter of energy which moves ten times a second is right to a twentieth.
DEVICE_SECONDS = 2.0


def measure(job: Job) -> Speed:
    """One cell of the grid, by a fresh process. Raises as opening a model does.

    first_token_s: from the call to the first token of the last sequence, all prompts read.
    step_ms: of the steps after it, each of which writes a token of every sequence.
    All of it is written once before: memory is asked for, kernels are loaded and CUDA graphs are
    captured by what is run, at the lengths that it reaches, and that is done once and no more.
    What comes after the timed tokens is for a device's energy, whose counter moves every now and
    then.
    """
    meter = Meter(uses_device=job.provider == "cuda")
    started = time.perf_counter()
    model = open_model(job)
    load_s = time.perf_counter() - started
    prompts = prompts_of(model.tokenizer, job.prompts, job.batch, job.context)
    _write(model, prompts, job.new_tokens, meter)
    meter.start()
    times, held = _write(model, prompts, job.new_tokens, meter)
    rounds, ends = 1, times[0] + DEVICE_SECONDS
    while meter.counts_device and time.perf_counter() < ends:
        _write(model, prompts, job.new_tokens, meter)
        rounds += 1
    energy = meter.energy(rounds * job.batch * job.new_tokens)
    first, *steps = np.diff(times).tolist()
    return speed_of(load_s, first, steps, job.batch, held, energy)


def speed_of(
    load_s: float, first: float, steps: Sequence[float], batch: int, held: Memory, energy: Energy
) -> Speed:
    """Of the seconds of `first`, the prompt with a first token, and of each step behind it."""
    steps_ms = 1e3 * np.array(steps)
    return Speed(
        load_s=load_s,
        first_token_s=first,
        step_ms=Steps(
            median=statistics.median(steps_ms.tolist()), p95=float(np.percentile(steps_ms, 95))
        ),
        tokens_per_s=1e3 * batch / float(steps_ms.mean()),
        memory=held,
        energy=energy,
    )


def prompts_of(
    tokenizer: tokenizers.Tokenizer, texts: Sequence[str], batch: int, context: int
) -> list[list[int]]:
    """`batch` prompts of `context` tokens: the texts, over and over, from a place each."""
    ids = [token for text in texts for token in encode(tokenizer, text)]
    return [[ids[(start + place) % len(ids)] for place in range(context)] for start in range(batch)]


def _write(
    model: Model, prompts: list[list[int]], count: int, meter: Meter
) -> tuple[list[float], Memory]:
    """Write `count` tokens on from each prompt: [1 + count] times, of the call and of each step.

    One token more is asked for and never written, so that the memory is that with the cache.
    """
    times = [time.perf_counter()]
    with closing(model.stream(prompts, max_new_tokens=count + 1, do_sample=False)) as tokens:
        for _ in range(count):
            for _ in prompts:
                next(tokens)
            times.append(time.perf_counter())
        held = Memory(*memory.held(), device_bytes=meter.device_bytes())
    return times, held
