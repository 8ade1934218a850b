"""What the server adds to its engine, on a model so small that Python is the hard part.

    python -m benchmarks.serve.overhead [--model demo] [--clients 16] [--requests 64] [--tokens 48]
        [--rounds 5] [--checkout NAME=FOLDER ...]

The same greedy requests in turns through the engine in this process, a thread a client, and through
servers: streamed, and as whole answers. A client sends its next request when the last one is done,
so that the engine never lacks work. `--checkout` adds the server of another checkout, to compare a
change with what was before it. Servers sleep while it isn't their turn. Each answer must be the
engine's.
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import statistics
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gpt2onnx
from benchmarks.micro.driver import Report
from benchmarks.process import ROOT
from benchmarks.serve.client import Address, Exchange, ask
from benchmarks.serve.servers import Server, free_port, ours

GREEDY: dict[str, Any] = {"do_sample": False, "eos_token_id": []}


class Ran(NamedTuple):
    """A contender's turn."""

    seconds: float
    processor: float  # seconds of the server's
    client: float  # of a core, the client's share
    first: list[float]  # seconds to the first token
    tokens: list[list[int]]


class EngineAlone:
    """The engine without a server; its clients are threads that wait for tokens."""

    def __init__(self, model: gpt2onnx.Model, rows: int) -> None:
        self.engine = gpt2onnx.Engine(model, max_rows=rows)

    def run(self, prompts: list[list[int]], count: int, clients: int) -> Ran:
        tokens: list[list[int]] = [[] for _ in prompts]
        first = [0.0] * len(prompts)
        left: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(len(prompts)):
            left.put(number)

        def client() -> None:
            while True:
                try:
                    number = left.get_nowait()
                except queue.Empty:
                    return
                sent = time.perf_counter()
                handle = self.engine.submit(prompts[number], max_new_tokens=count, **GREEDY)
                for token in handle:
                    first[number] = first[number] or time.perf_counter() - sent
                    tokens[number].append(token.id)

        began, processor = time.perf_counter(), time.process_time()
        threads = [threading.Thread(target=client) for _ in range(clients)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        seconds = time.perf_counter() - began
        return Ran(seconds, time.process_time() - processor, 0.0, first, tokens)

    def close(self) -> None:
        self.engine.close()


class Served:
    """A server of a checkout's."""

    def __init__(self, server: Server, stream: bool) -> None:
        self.server, self.stream = server, stream

    def run(self, prompts: list[list[int]], count: int, clients: int) -> Ran:
        self.server.go_on()
        before = self.server.taken().processor_s
        began, processor = time.perf_counter(), time.process_time()
        exchanges = asyncio.run(self._ask_all(prompts, count, clients))
        seconds = time.perf_counter() - began
        client = (time.process_time() - processor) / seconds
        took = self.server.taken().processor_s - before
        self.server.pause()
        first = [each.pieces[0][0] - each.sent for each in exchanges]
        return Ran(seconds, took, client, first, [self._tokens(each) for each in exchanges])

    async def _ask_all(self, prompts: list[list[int]], count: int, clients: int) -> list[Exchange]:
        left = iter(enumerate(prompts))
        found: dict[int, Exchange] = {}

        async def client() -> None:
            for number, prompt in left:
                body = {"prompt": prompt, "max_tokens": count, "stream": self.stream, **GREEDY}
                body["return_token_ids"] = True
                found[number] = await ask(Address(self.server.port), "/v1/completions", body)

        await asyncio.gather(*[client() for _ in range(clients)])
        return [found[number] for number in range(len(prompts))]

    def _tokens(self, exchange: Exchange) -> list[int]:
        objects = [each.content for each in exchange.events()] if self.stream else [exchange.json()]
        return [token for each in objects for token in each["choices"][0]["token_ids"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkout", action="append", default=[], metavar="NAME=FOLDER")
    args = parser.parse_args()
    checkouts = {"server": str(ROOT)} | dict(each.split("=", 1) for each in args.checkout)
    model = gpt2onnx.load(args.model, provider="cpu")
    rng = np.random.default_rng(0)
    vocab_size = model.decoder.vocab_size
    prompts = [rng.integers(0, vocab_size, 16).tolist() for _ in range(args.requests)]
    with ExitStack() as stack:
        alone = EngineAlone(model, args.clients)
        stack.callback(alone.close)
        contenders: dict[str, Any] = {"engine": alone}
        for name, folder in checkouts.items():
            port = free_port()
            command = ours(args.model, port, "--max-rows", str(args.clients))
            log = Path("build", f"overhead-{name}.log")
            log.parent.mkdir(exist_ok=True)
            server = stack.enter_context(Server(command, port, log, folder))
            server.wait_until_ready()
            server.pause()
            contenders |= {f"{name}, streamed": Served(server, True)}
            contenders |= {f"{name}, whole": Served(server, False)}
        ran = in_turns(contenders, args.rounds, prompts, args.tokens, args.clients)
    tell(ran, vars(args))


def in_turns(contenders: dict[str, Any], rounds: int, *asked: Any) -> dict[str, list[Ran]]:
    """Every contender once a round; the first round warms up."""
    ran: dict[str, list[Ran]] = {name: [] for name in contenders}
    for number in range(1 + rounds):
        for name, contender in contenders.items():
            turn = contender.run(*asked)
            if number:
                ran[name].append(turn)
    return ran


def tell(ran: dict[str, list[Ran]], circumstances: dict[str, Any]) -> None:
    report = Report(
        "way", "tokens/s", "of engine", "cpu ms/token", "first p50 ms", "first p99 ms", "client",
        "equal",
    )  # fmt: skip
    expected = ran["engine"][0].tokens
    count = sum(map(len, expected))
    for name, turns in ran.items():
        first = np.concatenate([each.first for each in turns])
        pairs = zip(turns, ran["engine"], strict=True)
        report.row(
            name,
            count / statistics.median(each.seconds for each in turns),
            statistics.median(its.seconds / mine.seconds for mine, its in pairs),
            1e3 * statistics.median(each.processor for each in turns) / count,
            1e3 * float(np.quantile(first, 0.5)),
            1e3 * float(np.quantile(first, 0.99)),
            statistics.median(each.client for each in turns),
            str(all(each.tokens == expected for each in turns)),
        )
    report.end(**circumstances)


if __name__ == "__main__":
    main()
