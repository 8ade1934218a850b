"""How long a thread should spin for work before it sleeps.

    python scripts/bench_spinning.py FOLDER [--rounds 40] [--threads 2]

Milliseconds a token by percentile, for each time in microseconds that threads may spin ("own" is
ONNX Runtime's default), in turns: greedy, and drawn by a chain of samplers. The
lowest percentiles are the machine when it is quiet, the higher ones when others want its cores.
Then two models in one process: token by token in turns, as a draft and its target are, and at once
from two threads. All must write the same tokens.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar

import numpy as np

from gpt2onnx.models import load
from gpt2onnx.runtime.model import Model
from gpt2onnx.runtime.ort import session_options

OWN = -1
SETTINGS = (OWN, 0, 10, 20, 50, 200)
PERCENTILES = (5, 25, 50, 75)
PROMPT, TOKENS = list(range(1000, 1032)), 16
LENGTH = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS}
CHAIN = {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "repetition_penalty": 1.1}
MODES = {"greedy": {}, "drawn": {"do_sample": True, "seed": 1, **CHAIN}}
T = TypeVar("T")
Pairs: TypeAlias = dict[int, tuple[Model, Model]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    pairs = {us: open_pair(arguments.folder, arguments.threads, us) for us in SETTINGS}
    print(f"{'':9}  {'spin':>6}  " + "  ".join(f"{f'p{each}':>6}" for each in PERCENTILES))
    for mode, parameters in MODES.items():
        alone(pairs, mode, arguments.rounds, parameters)
    together(pairs, arguments.rounds)


def open_pair(folder: str, threads: int | None, us: int) -> tuple[Model, Model]:
    """Two open models whose threads spin that long."""
    chosen, session_options.SPIN_US = session_options.SPIN_US, us
    try:
        return load(folder, "cpu", threads=threads), load(folder, "cpu", threads=threads)
    finally:
        session_options.SPIN_US = chosen


def alone(pairs: Pairs, mode: str, rounds: int, parameters: dict[str, Any]) -> None:
    times: dict[int, list[float]] = {us: [] for us in pairs}
    texts = {}
    for _ in range(rounds):
        for us, (model, _) in pairs.items():
            found = step_times(model.stream(PROMPT, **LENGTH, **parameters))
            times[us] += [seconds for _, seconds in found]
            texts[us] = [token.id for token, _ in found]
    for us in pairs:
        report(f"{mode:9}", us, times[us], texts[us] == texts[OWN])


def together(pairs: Pairs, rounds: int) -> None:
    turns: dict[int, list[float]] = {us: [] for us in pairs}
    rates: dict[int, list[float]] = {us: [] for us in pairs}
    for _ in range(rounds):
        for us, pair in pairs.items():
            both = zip(*(model.stream(PROMPT, **LENGTH) for model in pair), strict=True)
            turns[us] += [seconds / 2 for _, seconds in step_times(both)]
            rates[us].append(at_once(pair))
    for us in pairs:
        report("in turns ", us, turns[us], True)
    for us in pairs:
        print(f"at once    {name(us):>6}  {statistics.median(rates[us]):6.0f} tokens/s")


def step_times(tokens: Iterable[T]) -> list[tuple[T, float]]:
    """Each token but the first, which waits for the prompt, with its seconds."""
    found = []
    last = None
    for token in tokens:
        now = time.perf_counter()
        if last is not None:
            found.append((token, now - last))
        last = now
    return found


def at_once(pair: tuple[Model, Model]) -> float:
    """Tokens a second of both models together, each in a thread of its own."""
    threads = [
        threading.Thread(target=model.generate, args=(PROMPT,), kwargs=LENGTH) for model in pair
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 2 * TOKENS / (time.perf_counter() - began)


def report(what: str, us: int, seconds: list[float], same: bool) -> None:
    found = "  ".join(f"{value * 1e3:6.2f}" for value in np.percentile(seconds, PERCENTILES))
    print(f"{what}  {name(us):>6}  {found} ms a token, the same tokens: {same}")


def name(us: int) -> str:
    return "own" if us == OWN else f"{us} us"


if __name__ == "__main__":
    main()
