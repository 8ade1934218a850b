"""Requests that come at random, through one engine, one after another, and in fixed batches.

    python -m benchmarks.arrivals MODEL [--requests 32] [--rows 16] [--batch 8] [--load 0.7]
                                        [--prompts 8,400] [--new 8,64]

Prompts have 8 to 400 tokens and 8 to 64 follow, unless told otherwise. First all requests are there
at once: tokens a second at saturation. Then they come by a Poisson process, `--load` of what the
engine can do: the time from a request's arrival to its first token. The same requests, in the same
order, go through

- one: Model.stream, one request after the other;
- batches: Model.generate of up to `--batch` requests that wait, until the last of them is done;
- engine: gpt2onnx.Engine with `--rows` rows.

Every way must give the tokens of `one`; how many do stands beside its times. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import gpt2onnx


class Asked(NamedTuple):
    """A request: its prompt, how many tokens it wants, and when it comes, in seconds."""

    prompt: list[int]
    new_tokens: int
    arrival: float


class Served(NamedTuple):
    """What came of requests: the tokens of each, seconds to the first one, and all in all.

    `taken` are, of an engine, the seconds until it had a request.
    """

    tokens: list[list[int]]
    first: list[float]
    seconds: float
    taken: Sequence[float] = ()

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return sum(map(len, self.tokens)) / self.seconds


Way = Callable[[gpt2onnx.Model, Sequence[Asked]], Served]
PROMPTS, NEW = (8, 400), (8, 64)
ENDLESS: dict[str, Any] = {"eos_token_id": []}


def _range(text: str) -> tuple[int, int]:
    least, most = map(int, text.split(","))
    if not 0 < least <= most:
        raise ValueError
    return least, most


def requests(
    count: int,
    vocab_size: int,
    rate: float,
    seed: int = 0,
    prompts: tuple[int, int] = PROMPTS,
    new: tuple[int, int] = NEW,
) -> list[Asked]:
    """Random requests, `rate` a second; all at once where it is infinite.

    Tokens of a prompt are log-uniform from the first to the second number, new ones uniform.
    """
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.uniform(*np.log(prompts), count)).astype(int)
    gaps = rng.exponential(1, count) / rate
    return [
        Asked(
            rng.integers(0, vocab_size, length).tolist(),
            int(rng.integers(new[0], new[1] + 1)),
            arrival,
        )
        for length, arrival in zip(lengths, np.cumsum(gaps), strict=True)
    ]


def arriving(asked: Sequence[Asked], started: float) -> queue.Queue[int | None]:
    """The numbers of requests, each from its arrival on; then None."""
    there: queue.Queue[int | None] = queue.Queue()

    def arrive() -> None:
        for number, each in enumerate(asked):
            time.sleep(max(0.0, started + each.arrival - time.monotonic()))
            there.put(number)
        there.put(None)

    threading.Thread(target=arrive, daemon=True).start()
    return there


def one(model: gpt2onnx.Model, asked: Sequence[Asked]) -> Served:
    """One request after the other."""
    started, first = time.monotonic(), [0.0] * len(asked)
    tokens: list[list[int]] = [[] for _ in asked]
    there = arriving(asked, started)
    while (number := there.get()) is not None:
        each = asked[number]
        for token in model.stream(each.prompt, max_new_tokens=each.new_tokens, **ENDLESS):
            first[number] = first[number] or time.monotonic() - started - each.arrival
            tokens[number].append(token.id)
    return Served(tokens, first, time.monotonic() - started)


def batches(size: int) -> Way:
    """As many as wait, at most `size`; all of them are written until the last one is done."""

    def run(model: gpt2onnx.Model, asked: Sequence[Asked]) -> Served:
        started, first = time.monotonic(), [0.0] * len(asked)
        tokens: list[list[int]] = [[] for _ in asked]
        there, more = arriving(asked, started), True
        while more:
            batch = [there.get()]
            while len(batch) < size and batch[-1] is not None and not there.empty():
                batch.append(there.get())
            more = batch[-1] is not None
            numbers = [number for number in batch if number is not None]
            prompts = [asked[number].prompt for number in numbers]
            longest = max((asked[number].new_tokens for number in numbers), default=0)
            for token in (
                model.stream(prompts, max_new_tokens=longest, **ENDLESS) if prompts else ()
            ):
                number = numbers[token.sequence]
                each = asked[number]
                first[number] = first[number] or time.monotonic() - started - each.arrival
                if len(tokens[number]) < each.new_tokens:
                    tokens[number].append(token.id)
        return Served(tokens, first, time.monotonic() - started)

    return run


def engine(rows: int) -> Way:
    """All that there are, in the engine's rows."""

    def run(model: gpt2onnx.Model, asked: Sequence[Asked]) -> Served:
        first = [0.0] * len(asked)
        tokens: list[list[int]] = [[] for _ in asked]

        def follow(number: int, handle: gpt2onnx.Handle) -> None:
            for token in handle:
                due = started + asked[number].arrival
                first[number] = first[number] or time.monotonic() - due
                tokens[number].append(token.id)

        with gpt2onnx.Engine(model, max_rows=rows) as running:
            started = time.monotonic()
            there, followers, taken = arriving(asked, started), [], list[float]()
            while (number := there.get()) is not None:
                each = asked[number]
                handle = running.submit(each.prompt, max_new_tokens=each.new_tokens, **ENDLESS)
                taken.append(time.monotonic() - started - each.arrival)
                followers.append(threading.Thread(target=follow, args=(number, handle)))
                followers[-1].start()
            for follower in followers:
                follower.join()
            return Served(tokens, first, time.monotonic() - started, taken)

    return run


def figures(served: Served, expected: Served) -> dict[str, float]:
    same = sum(mine == theirs for mine, theirs in zip(served.tokens, expected.tokens, strict=True))
    return {
        "tokens_per_second": served.rate,
        "first_token_p50": float(np.quantile(served.first, 0.5)),
        "first_token_p99": float(np.quantile(served.first, 0.99)),
        "equal": same / len(served.tokens),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--load", type=float, default=0.7)
    for name, (least, most) in (("prompts", PROMPTS), ("new", NEW)):
        what = f"tokens, from and to (default: {least},{most})"
        parser.add_argument(f"--{name}", type=_range, default=(least, most), help=what)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    model = gpt2onnx.load(args.model, provider="cpu", threads=args.threads)
    ways: dict[str, Way] = {
        "one": one,
        "batches": batches(args.batch),
        "engine": engine(args.rows),
    }
    vocab_size, report = model.decoder.vocab_size, {}
    rate = np.inf
    for name in ("saturation", "arrivals"):
        asked = requests(args.requests, vocab_size, rate, prompts=args.prompts, new=args.new)
        served = {way: run(model, asked) for way, run in ways.items()}
        report[name] = {way: figures(each, served["one"]) for way, each in served.items()}
        rate = args.load * args.requests / served["engine"].seconds
        for way, each in report[name].items():
            print(f"{name:12}{way:10}" + "  ".join(f"{k} {v:.3g}" for k, v in each.items()))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
