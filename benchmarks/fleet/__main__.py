"""How many machines a load needs: random requests through machines that are simulated.

    python -m benchmarks.fleet measure MODEL [--rows 16] [--requests 64] [--load 0.5 0.9]
    python -m benchmarks.fleet plan COSTS --rate 20 [--first 1.0] [--price 0.10]

A machine is the engine's own loop and scheduler on a clock of their own, which each turn moves by
what it costs: so much for a turn, each row in it, each part of a prompt and each of its tokens, and
each position that these attend to. A request goes to the machine that has the fewest.

`measure` times the turns of an engine that has random requests of benchmarks.arrivals all at once,
from one turn's beginning to the next one's, and prints what they cost as COSTS. Then it sends other
requests, at each `--load` of what the engine can do, and prints what came beside what a simulation
of one machine says: `simulated` at an even pace, `replayed` at the pace that the machine had in
that run, as its turns took more or less than they cost. Where others share the machine it is the
second that says whether the model is right; where nobody does, both are the same.

`plan` finds the fewest machines with which 99 of 100 requests of the same kind, `--rate` a second,
have their first token within `--first` seconds; and the dollars for a million tokens at `--price`
an hour for a machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import gpt2onnx
from benchmarks.arrivals import ENDLESS, Asked, Served, engine, requests
from benchmarks.fleet.costs import Costs, fitted
from benchmarks.fleet.machine import simulate
from benchmarks.fleet.meter import Meter
from benchmarks.fleet.pace import Pace

MOST_MACHINES = 4096
# Requests of a plan, and the vocabulary that their prompts are of, which doesn't matter.
PLANNED, VOCABULARY = 2000, 50257
CONTEXT = 128  # tokens that a row stands behind, where all of them decode
WARM = 8  # requests before anything is timed


def measure(args: argparse.Namespace) -> dict[str, Any]:
    model = gpt2onnx.load(args.model, provider="cpu", threads=args.threads)
    way, vocab_size = engine(args.rows), model.decoder.vocab_size
    way(model, requests(WARM, vocab_size, np.inf, seed=2))
    meter = Meter(model.decoder)
    model.decoder = meter  # type: ignore[assignment]
    at_once = requests(args.requests, vocab_size, np.inf, seed=1)
    most = args.requests / way(model, at_once).seconds
    chunk = min(model.decoder.chunk, VOCABULARY)
    costs = fitted(meter.turns, _submitting(model, at_once), args.rows, chunk)
    loads = {}
    for load in args.load:
        asked = requests(args.requests, vocab_size, load * most)
        meter.turns.clear()
        served = way(model, asked)
        start = meter.turns[0].began - asked[0].arrival - served.taken[0]
        loads[f"{load:g}"] = _compared(asked, served, costs, Pace(meter.turns, costs, start))
    return {"costs": costs, "requests_per_second": most, "loads": loads}


def _submitting(model: gpt2onnx.Model, asked: Sequence[Asked]) -> float:
    """Seconds that it takes to hand a request in, while the engine is at work."""
    with gpt2onnx.Engine(model, max_rows=1) as running:
        handle = running.submit([1], max_new_tokens=model.decoder.n_positions - 1, **ENDLESS)
        began = time.perf_counter()
        for each in asked:
            running.submit(each.prompt, max_new_tokens=each.new_tokens)
        seconds = time.perf_counter() - began
        handle.cancel()
    return seconds / len(asked)


def _compared(
    asked: Sequence[Asked], served: Served, costs: Costs, pace: Pace
) -> dict[str, dict[str, float]]:
    """What came, and what the simulation says; also as a ratio."""
    measured = _figures(served.first, served.seconds, asked)
    found = {"measured": measured}
    for name, run in (("simulated", ()), ("replayed", (pace, served.taken))):
        told = simulate(asked, 1, costs, *run)
        found[name] = _figures(told.first, told.seconds, asked)
        found[f"{name}_by_measured"] = {
            figure: value / measured[figure] for figure, value in found[name].items()
        }
    return found


def _figures(first: Sequence[float], seconds: float, asked: Sequence[Asked]) -> dict[str, float]:
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
    full = args.price / 3600 / costs.tokens_per_second(CONTEXT) * 1e6
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True)
    measured = commands.add_parser("measure")
    measured.add_argument("model")
    measured.add_argument("--requests", type=int, default=64)
    measured.add_argument("--rows", type=int, default=16)
    measured.add_argument("--load", type=float, nargs="+", default=[0.5, 0.9])
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
