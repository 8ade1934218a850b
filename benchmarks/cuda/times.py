"""How long a step, a loop's turn and a prompt take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.cuda.bench import Bench
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoding.plain import plain_tasks
from gpt2onnx.runtime.decoding.sequence import TokenSequence
from gpt2onnx.runtime.engine.loop import run
from gpt2onnx.samplers import GenerationParams


def step_time(
    bench: Bench,
    precision: str,
    mode: str,
    batch: int,
    kind: str = "step",
    context: int | None = None,
) -> dict[str, float]:
    """The decoder alone: all logits on the host after every step, or the largest.

    With a context the arena has room for the longest one, so that what grows with a row's length
    can be told from what grows with the room.
    """
    decoder: Any = bench.open(precision, mode).decoder
    spare = bench.steps + 8
    decoder.reserve(batch, spare + (bench.contexts[-1] if context else 32))
    rows = [decoder.new_row()]
    reads.prefill(decoder, rows[0], bench.text(context or 32))
    rows += [decoder.fork(rows[0]) for _ in range(batch - 1)]
    ids = np.arange(batch)
    step = getattr(reads, kind)
    times = timed(lambda: step(decoder, rows, ids), bench.steps)
    for row in reversed(rows):
        decoder.free(row)
    return speed(times, batch)


def prompt_time(bench: Bench, precision: str) -> dict[str, float]:
    """A prompt as long as the longest context, and the logits behind it."""
    decoder: Any = bench.open(precision, "plain").decoder
    prompt = bench.text(bench.contexts[-1])

    def read() -> None:
        row = decoder.new_row()
        reads.prefill(decoder, row, prompt)
        decoder.free(row)

    return speed(timed(read, bench.steps // 4), len(prompt))


def loop_time(
    bench: Bench, precision: str, mode: str, batch: int, drawn: bool = False
) -> dict[str, float]:
    """Generation, from one choice to the next: greedy, or drawn from the 50 most probable.

    repeated: steps that were repeated for all logits, where the largest didn't settle a choice.
    """
    sampling: dict[str, Any] = {"do_sample": True, "seed": 1} if drawn else {}
    params = GenerationParams(max_new_tokens=bench.steps + 4, **sampling)
    sequences = [TokenSequence(index, bench.ids[:32], params, draw=index) for index in range(batch)]
    decoder: Any = bench.open(precision, mode).decoder
    repeated = 0
    whole = decoder._step_whole

    def repeat(few: Any) -> Any:
        nonlocal repeated
        repeated += 1
        return whole(few)

    decoder._step_whole = repeat
    steps = run(decoder, plain_tasks(decoder, sequences, whole=False))
    stamps = [time.perf_counter() for step in steps if step.sequence == 0]
    del decoder._step_whole
    return speed(np.diff(stamps)[3:].tolist(), batch) | {"repeated": repeated}


def timed(step: Callable[[], Any], count: int) -> list[float]:
    """Seconds of each call, the first few, which allocate and capture, left out."""
    for _ in range(4):
        step()
    stamps = [time.perf_counter()]
    for _ in range(count):
        step()
        stamps.append(time.perf_counter())
    return np.diff(stamps).tolist()


def speed(times: list[float], batch: int) -> dict[str, float]:
    median = statistics.median(times)
    p95 = float(np.quantile(times, 0.95))
    return {"ms": 1e3 * median, "p95 ms": 1e3 * p95, "tokens/s": batch / median}
