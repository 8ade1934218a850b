"""How many machines a load needs: random requests through machines that are simulated.

    python -m benchmarks.fleet measure MODEL [--rows 16] [--requests 64] [--load 0.7]
    python -m benchmarks.fleet plan COSTS --rate 20 [--first 1.0] [--price 0.10]

A machine does what the engine does in a turn: a chunk's worth of prompts is read, and each row that
decodes gets a token; a request goes to the machine that has the fewest. What a turn costs are three
figures: seconds for a step, for each row in it, and for each token of a prompt.

`measure` finds these with an engine that has one request, as many as rows, and prompts alone, and
prints them as COSTS. Then it sends the random requests of benchmarks.arrivals at `--load` of what
the engine can do, and prints what came beside what the simulation says of one machine.

`plan` finds the fewest machines with which 99 of 100 requests of the same kind, `--rate` a second,
have their first token within `--first` seconds; and the dollars for a million tokens at `--price`
an hour for a machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

import gpt2onnx
from benchmarks.arrivals import Asked, engine, requests

ENDLESS: dict[str, Any] = {"eos_token_id": []}
MOST_MACHINES = 4096
# Requests of a plan, and the vocabulary that their prompts are of, which doesn't matter.
PLANNED, VOCABULARY = 2000, 50257


class Costs(NamedTuple):
    """Seconds that a turn takes: for a step, each row in it, each token of a prompt."""

    step: float
    row: float
    token: float
    rows: int = 16
    chunk: int = 128

    @property
    def tokens_per_second(self) -> float:
        """Of all rows decoding."""
        return self.rows / (self.step + self.row * self.rows)


@dataclass
class _Request:
    asked: Asked
    number: int
    unread: int
    unwritten: int


@dataclass
class _Machine:
    costs: Costs
    clock: float = 0.0
    waiting: deque[_Request] = field(default_factory=deque)
    running: list[_Request] = field(default_factory=list)

    @property
    def load(self) -> int:
        return len(self.waiting) + len(self.running)

    def advance(self, until: float, first: list[float]) -> None:
        """Take turns until a moment; the last one may end behind it."""
        while self.clock < until and self.load:
            self._turn(first)
        self.clock = max(self.clock, until) if until < float("inf") else self.clock

    def _turn(self, first: list[float]) -> None:
        while self.waiting and len(self.running) < self.costs.rows:
            self.running.append(self.waiting.popleft())
        decoding = [each for each in self.running if not each.unread]
        read = self._read()
        self.clock += self.costs.token * sum(read.values())
        if decoding:
            self.clock += self.costs.step + self.costs.row * len(decoding)
        for each in self.running:
            each.unread -= read.get(each.number, 0)
            if each in decoding or (each.number in read and not each.unread):
                each.unwritten -= 1
            if each.number in read and not each.unread:  # its prompt gives the first token
                first[each.number] = self.clock - each.asked.arrival
        self.running = [each for each in self.running if each.unread or each.unwritten]

    def _read(self) -> dict[int, int]:
        """How much of which prompts this turn reads: the shortest first, as far as a chunk goes."""
        left, read = self.costs.chunk, dict[int, int]()
        for each in sorted(self.running, key=lambda each: each.unread):
            if each.unread and left:
                read[each.number] = min(each.unread, left)
                left -= read[each.number]
        return read


class Outcome(NamedTuple):
    """Seconds to each first token, and to the end of all."""

    first: list[float]
    seconds: float


def simulate(asked: Sequence[Asked], machines: int, costs: Costs) -> Outcome:
    """What becomes of requests, each at the machine that has least when it comes."""
    first = [0.0] * len(asked)
    fleet = [_Machine(costs) for _ in range(machines)]
    for number, each in enumerate(asked):
        for machine in fleet:
            machine.advance(each.arrival, first)
        chosen = min(fleet, key=lambda machine: machine.load)
        chosen.waiting.append(_Request(each, number, len(each.prompt), each.new_tokens))
    for machine in fleet:
        machine.advance(float("inf"), first)
    return Outcome(first, max(machine.clock for machine in fleet))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    model = gpt2onnx.load(args.model, provider="cpu", threads=args.threads)
    costs = _costs(model, args.rows)
    vocab_size = model.decoder.vocab_size
    at_once = requests(args.requests, vocab_size, np.inf)
    most = args.requests / engine(args.rows)(model, at_once).seconds
    asked = requests(args.requests, vocab_size, args.load * most)
    served, told = engine(args.rows)(model, asked), simulate(asked, 1, costs)
    return {
        "costs": costs,
        "measured": _figures(served.first, served.seconds, asked),
        "simulated": _figures(told.first, told.seconds, asked),
    }


def _costs(model: gpt2onnx.Model, rows: int) -> Costs:
    """By an engine that has one row, all rows, and prompts alone."""
    chunk = min(model.decoder.chunk, 1024)
    with gpt2onnx.Engine(model, max_rows=rows) as running:

        def seconds(count: int, length: int, new: int) -> float:
            began = time.perf_counter()
            prompts = [[1 + n] * length for n in range(count)]
            running.submit(prompts, max_new_tokens=new, **ENDLESS).result()
            return time.perf_counter() - began

        seconds(rows, 8, 8)
        token = min(seconds(1, 256, 1) for _ in range(5)) / 256
        alone, full = (
            min(seconds(n, 2, 65) - seconds(n, 2, 1) for _ in range(3)) / 64 for n in (1, rows)
        )
    row = max(0.0, (full - alone) / (rows - 1))
    return Costs(alone - row, row, token, rows, chunk)


def _figures(first: list[float], seconds: float, asked: Sequence[Asked]) -> dict[str, float]:
    return {
        "tokens_per_second": sum(each.new_tokens for each in asked) / seconds,
        "first_token_p50": float(np.quantile(first, 0.5)),
        "first_token_p99": float(np.quantile(first, 0.99)),
    }


def plan(args: argparse.Namespace) -> dict[str, Any]:
    costs = Costs(**json.loads(args.costs))
    asked = requests(PLANNED, VOCABULARY, args.rate)
    machines = _fewest(asked, costs, args.first)
    told = simulate(asked, machines, costs)
    tokens = sum(each.new_tokens for each in asked)
    dollars = machines * args.price * told.seconds / 3600
    full = args.price / 3600 / costs.tokens_per_second * 1e6
    return {
        "machines": machines,
        **_figures(told.first, told.seconds, asked),
        "dollars_per_million_tokens": dollars / tokens * 1e6,
        "dollars_per_million_tokens_all_rows_full": full,
    }


def _fewest(asked: Sequence[Asked], costs: Costs, within: float) -> int:
    """The fewest machines with which 99 of 100 requests begin in time."""

    def is_enough(machines: int) -> bool:
        return float(np.quantile(simulate(asked, machines, costs).first, 0.99)) <= within

    most = 1
    while not is_enough(most):
        most *= 2
        if most > MOST_MACHINES:
            raise SystemExit(f"{MOST_MACHINES} machines aren't enough: a prompt alone takes longer")
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if is_enough(middle) else (middle, most)
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    measured = commands.add_parser("measure")
    measured.add_argument("model")
    measured.add_argument("--requests", type=int, default=64)
    measured.add_argument("--rows", type=int, default=16)
    measured.add_argument("--load", type=float, default=0.7)
    measured.add_argument("--threads", type=int)
    measured.set_defaults(run=measure)
    planned = commands.add_parser("plan")
    planned.add_argument("costs", help="JSON, as measure prints it")
    planned.add_argument("--rate", type=float, required=True, help="requests a second")
    planned.add_argument("--first", type=float, default=1.0, help="seconds to the first token")
    planned.add_argument("--price", type=float, default=0.10, help="dollars an hour, a machine")
    planned.set_defaults(run=plan)
    args = parser.parse_args()
    found = args.run(args)
    if "costs" in found:
        found["costs"] = found["costs"]._asdict()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
