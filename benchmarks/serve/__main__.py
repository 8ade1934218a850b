"""Servers under the same load, in turns.

    python -m benchmarks.serve --reference FP32 --ours int8=DIR [--ours int8-dynamic=DIR]
        [--llama PROGRAM GGUF] [--openvino PYTHON DIR] [--vllm PROGRAM DIR]
        [--requests 32] [--rows 16] [--threads 2] [--rounds 3] [--load 0.5]

All models are made of one checkpoint; FP32 is the model folder of our fp32 export. A round has
every server once: all requests at once, for tokens a second at saturation, then the same by a
Poisson process at `--load` of the rate that our first one finished them at, the same for all. A
server sleeps while it isn't its turn. Every turn has prompts of its own, the same for all servers:
one that was read before would be in a cache. Answers are streamed; those of ours must be what Model
gives each request alone, which is looked at when all is over.

Agreement is measured before: `equal` is the share of tokens up to the first that differs from
fp32's greedy text, `top-1` the share of single tokens, each after a part of fp32's own text, that
are fp32's. Tokens a second of the server's own processor time say what it does where other work
shares the cores. Good are answers with a first token within GOOD_FIRST_S and GOOD_TOKEN_S a token
after it. Times are medians of rounds; p50 and p99 are over the requests of a round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gpt2onnx
from benchmarks.agreement import equal_tokens
from benchmarks.machine import load, machine
from benchmarks.micro.driver import Report
from benchmarks.serve.client import Address, Exchange, Load, ask, at_times
from benchmarks.serve.contenders import Contender, Setting, chosen
from benchmarks.serve.servers import Server, StartError, free_port
from benchmarks.serve.workload import Wanted, cut, poisson, requests

GOOD_FIRST_S, GOOD_TOKEN_S = 1.0, 0.1
CUTS = 2
GREEDY: dict[str, Any] = {"do_sample": False, "eos_token_id": []}
COLUMNS = (
    *("server", "tokens/s", "of first", "first p50 ms", "first p99 ms", "token p50 ms"),
    *("token p99 ms", "good", "top-1", "equal", "tokens/cpu s", "client"),
)


class Turn(NamedTuple):
    """What a server did with all requests."""

    tokens_per_s: float
    seconds: float
    first: list[float]  # seconds to the first token, by request
    each: list[float]  # seconds a token after it
    processor: float  # seconds of the server's
    client: float  # of a core


class Running:
    """A contender's server, asleep between its turns."""

    def __init__(self, contender: Contender, server: Server) -> None:
        self.contender, self.server = contender, server
        self.answers: list[tuple[list[Wanted], list[list[int]]]] = []
        self.turns: dict[str, list[Turn]] = {"saturation": [], "arrivals": []}
        self.agreement: dict[str, float] = {}

    def whole(self, wanted: list[Wanted]) -> list[list[int]]:
        """The tokens of whole answers."""
        found = self._ask(wanted, [0.0] * len(wanted), stream=False)
        tokens = [self.contender.answered(each) for each in found.exchanges]
        self.answers.append((wanted, tokens))
        return tokens

    def turn(self, name: str, wanted: list[Wanted], times: list[float]) -> Turn:
        before = self.server.taken().processor_s
        found = self._ask(wanted, times, stream=True)
        turn = self._figures(wanted, found, self.server.taken().processor_s - before)
        tokens = [self.contender.streamed_tokens(each) for each in found.exchanges]
        self.answers.append((wanted, tokens))
        self.turns[name].append(turn)
        return turn

    def _ask(self, wanted: list[Wanted], times: list[float], stream: bool) -> Load:
        address, of = Address(self.server.port), self.contender

        async def send(number: int) -> Exchange:
            return await ask(address, of.path, of.body(wanted[number], stream))

        self.server.go_on()
        found = asyncio.run(at_times(times, send))
        self.server.pause()
        for exchange in found.exchanges:
            if exchange.error or exchange.status != 200:
                why = exchange.error or exchange.body[:300]
                raise RuntimeError(f"{of.name}: status {exchange.status}: {why!r}")
        return found

    def _figures(self, wanted: list[Wanted], found: Load, processor: float) -> Turn:
        first, each = [], []
        for request, exchange in zip(wanted, found.exchanges, strict=True):
            times = self.contender.streamed(exchange)
            first.append(times[0] - exchange.sent)
            each.append((times[-1] - times[0]) / max(1, request.count - 1))
        count = sum(request.count for request in wanted)
        return Turn(
            count / found.seconds, found.seconds, first, each, processor, found.client_share
        )


def reference_texts(model: gpt2onnx.Model, wanted: list[Wanted]) -> list[list[int]]:
    """What a model says, all requests in one batch, since it has no other answer then."""
    longest = max(each.count for each in wanted)
    found = model.generate([each.prompt for each in wanted], max_new_tokens=longest, **GREEDY)
    return [each.token_ids[: of.count] for each, of in zip(found, wanted, strict=True)]


def count_wrong(running: Running, folder: str, threads: int) -> int:
    """How many answers aren't what Model gives the request alone."""
    model = gpt2onnx.load(folder, provider="cpu", threads=threads)
    pairs = [pair for each in running.answers for pair in zip(*each, strict=True)]
    return sum(
        model.generate(each.prompt, max_new_tokens=each.count, **GREEDY).token_ids != tokens
        for each, tokens in pairs
    )


def agree(running: Running, wanted: list[Wanted], reference: list[list[int]]) -> dict[str, float]:
    """How far a server says what fp32 says."""
    mine = running.whole(wanted)
    equal = [equal_tokens(a, b) / len(a) for a, b in zip(reference, mine, strict=True)]
    pairs = cut(wanted, reference, CUTS)
    singles = running.whole([Wanted(prompt, 1) for prompt, _ in pairs])
    same = [tokens[:1] == [token] for tokens, (_, token) in zip(singles, pairs, strict=True)]
    return {"top-1": statistics.mean(same), "equal": statistics.mean(equal)}


def tell(name: str, all_running: list[Running]) -> list[dict[str, Any]]:
    """A table of one load."""
    print(f"\n{name}")
    report = Report(*COLUMNS)
    best = all_running[0].turns[name]
    for running in all_running:
        turns = running.turns[name]

        def median(figure: Any, turns: list[Turn] = turns) -> float:
            return float(statistics.median(figure(turn) for turn in turns))

        pairs = zip(turns, best, strict=True)
        report.row(
            running.contender.name,
            median(lambda turn: turn.tokens_per_s),
            statistics.median(mine.tokens_per_s / its.tokens_per_s for mine, its in pairs),
            *(1e3 * median(lambda t, q=q: np.quantile(t.first, q)) for q in (0.5, 0.99)),
            *(1e3 * median(lambda t, q=q: np.quantile(t.each, q)) for q in (0.5, 0.99)),
            median(_good),
            running.agreement["top-1"],
            running.agreement["equal"],
            median(lambda turn: turn.tokens_per_s * turn.seconds / turn.processor),
            median(lambda turn: turn.client),
        )
    return report.rows


def _good(turn: Turn) -> float:
    pairs = zip(turn.first, turn.each, strict=True)
    return statistics.mean(a <= GOOD_FIRST_S and b <= GOOD_TOKEN_S for a, b in pairs)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--reference", required=True, metavar="FP32")
    parser.add_argument("--ours", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--llama", nargs=2, metavar=("PROGRAM", "GGUF"))
    parser.add_argument("--openvino", nargs=2, metavar=("PYTHON", "DIR"))
    parser.add_argument("--vllm", nargs=2, metavar=("PROGRAM", "DIR"))
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", type=float, default=0.5)
    parser.add_argument("--out", type=Path, default=Path("build/serve"))
    return parser


def main() -> int:
    args = parser().parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    before, setting = load(), Setting(args.threads, args.rows)
    model = gpt2onnx.load(args.reference, provider="cpu", threads=args.threads)
    vocab_size = model.decoder.vocab_size
    wanted = requests(args.requests, vocab_size)
    reference = reference_texts(model, wanted)
    del model
    folders = dict(each.split("=", 1) for each in args.ours)
    all_running: list[Running] = []
    with ExitStack() as stack:
        for contender in chosen(args):
            port = free_port()
            log = args.out / f"{contender.name.replace(' ', '-')}.log"
            server = stack.enter_context(Server(contender.command(port, setting), port, log))
            try:
                seconds = server.wait_until_ready()
            except StartError as error:
                print(f"{contender.name}: {error}", file=sys.stderr)
                return 1
            print(f"{contender.name}: ready after {seconds:.1f} s", file=sys.stderr, flush=True)
            running = Running(contender, server)
            running.agreement = agree(running, wanted, reference)
            print(f"{contender.name}: {running.agreement}", file=sys.stderr, flush=True)
            all_running.append(running)
        rate = run(all_running, args, vocab_size)
    wrong = {
        each.contender.name: count_wrong(each, folders[name], args.threads)
        for each in all_running
        if (name := each.contender.name.removeprefix("gpt2onnx ")) in folders
    }
    print(f"answers of ours that aren't Model.generate's: {wrong}")
    rows = {name: tell(name, all_running) for name in ("saturation", "arrivals")}
    found = {
        "machine": machine(),
        "load_before": before,
        "settings": {name: str(value) for name, value in vars(args).items()},
        "arrivals_per_s": rate,
        "wrong": wrong,
        "rows": rows,
        "turns": {
            each.contender.name: {
                name: [turn._asdict() for turn in turns] for name, turns in each.turns.items()
            }
            for each in all_running
        },
    }
    (args.out / "serve.json").write_text(json.dumps(found, indent=1) + "\n")
    return int(any(wrong.values()))


def run(all_running: list[Running], args: argparse.Namespace, vocab_size: int) -> float:
    """All rounds, after one that warms up; gives the arrivals a second."""
    seeds = iter(range(1, 3 + 2 * args.rounds))
    at_once = [0.0] * args.requests

    def prompts() -> list[Wanted]:
        return requests(args.requests, vocab_size, next(seeds))

    wanted = prompts()
    warm = [running.turn("saturation", wanted, at_once) for running in all_running]
    rate: float = args.load * args.requests / warm[0].seconds
    for running in all_running:
        running.turns["saturation"].clear()
    for number in range(args.rounds):
        first, second = prompts(), prompts()
        for running in all_running:
            turn = running.turn("saturation", first, at_once)
            running.turn("arrivals", second, poisson(args.requests, rate, seed=number))
            words = f"{turn.tokens_per_s:.0f} tokens/s"
            print(f"round {number}: {running.contender.name}: {words}", file=sys.stderr, flush=True)
    return rate


if __name__ == "__main__":
    sys.exit(main())
