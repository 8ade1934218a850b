"""Steps, prompts and batches of model folders, in both graphs, in turns in one run.

    python kernels/bench_model.py FOLDER[:onnx|:kernels] ... [--threads N] [--rounds N] [--cpu]

Medians in ms of each, and what share of the first one's time that is. With several threads also the
medians of those rounds whose processors were near each other, and far (`distance` of
gpt2onnx_kernels tells). --cpu counts the process's own processor time in place of the clock's,
which on a busy machine tells more with one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gpt2onnx_kernels
import numpy as np

import gpt2onnx
from gpt2onnx.runtime.decoder import reads

PROMPT, STEPS = 512, 4
NEAR = 60e-9  # seconds from one processor to the other, where they share a cache
IDS = np.random.default_rng(0).integers(0, 257, 2000)


class Contender:
    """One folder's decoder in one graph."""

    def __init__(self, name: str, threads: int) -> None:
        folder, _, graph = name.partition(":")
        self.name = name
        self.decoder: Any = gpt2onnx.load(
            folder, provider="cpu", threads=threads, startup_cache=False, graph=graph or "onnx"
        ).decoder

    def prompt(self, clock: Callable[[], float]) -> float:
        row = self.decoder.new_row()
        start = clock()
        reads.prefill(self.decoder, row, IDS[:PROMPT])
        taken = clock() - start
        self.decoder.free(row)
        return taken

    def step(self, clock: Callable[[], float], rows: int, context: int) -> float:
        decoder = self.decoder
        decoder.reserve(rows, context + STEPS + 1)
        handles = [decoder.new_row()]
        reads.prefill(decoder, handles[0], IDS[:context])
        handles += [decoder.fork(handles[0]) for _ in range(rows - 1)]
        reads.step(decoder, handles, IDS[:rows])
        start = clock()
        for step in range(STEPS):
            reads.step(decoder, handles, IDS[step : step + rows])
        taken = (clock() - start) / STEPS
        for handle in reversed(handles):
            decoder.free(handle)
        return taken


WORK: dict[str, Callable[[Contender, Callable[[], float]], float]] = {
    "step at 32": lambda c, clock: c.step(clock, 1, 32),
    "step at 512": lambda c, clock: c.step(clock, 1, 512),
    "step at 900": lambda c, clock: c.step(clock, 1, 900),
    f"prompt of {PROMPT}": lambda c, clock: c.prompt(clock),
    "8 rows at 128": lambda c, clock: c.step(clock, 8, 128),
    "32 rows at 128": lambda c, clock: c.step(clock, 32, 128),
}


def by_distance(times: list[float], distances: list[float]) -> str:
    """The medians of near processors and of far ones."""
    told = ""
    for name, is_near in (("near", True), ("far", False)):
        some = [t for t, d in zip(times, distances, strict=True) if (d < NEAR) == is_near]
        if some:
            told += f"  {name} {statistics.median(some) * 1e3:.2f} ({len(some)})"
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--only", default="", help="what has this in its name")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu else time.perf_counter
    contenders = [Contender(name, arguments.threads) for name in arguments.folders]
    for work, measure in WORK.items():
        if arguments.only not in work:
            continue
        taken: dict[str, list[float]] = {each.name: [] for each in contenders}
        apart: dict[str, list[float]] = {each.name: [] for each in contenders}
        for _ in range(arguments.rounds):
            for each in contenders:
                taken[each.name].append(measure(each, clock))
                if arguments.threads > 1:
                    apart[each.name].append(gpt2onnx_kernels.distance())
        first = statistics.median(taken[contenders[0].name])
        for name, times in taken.items():
            middle = statistics.median(times)
            print(
                f"{work:14} {name:40} {middle * 1e3:9.2f} ms  best {min(times) * 1e3:9.2f}"
                f"  {middle / first:5.2f}{by_distance(times, apart[name]) if apart[name] else ''}",
                flush=True,
            )


if __name__ == "__main__":
    main()
