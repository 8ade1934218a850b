"""Our server at more than it can do, for as long as asked, with every answer checked.

    python -m benchmarks.serve.endure [--minutes 60 | --requests 10000] [--times 2] [--leave 0.3]
        [--model demo] [--out build/endure.json] [SERVE OPTIONS ...]

Requests of every kind (short ones, streams, several texts, beams, a JSON schema, scores) come by a
Poisson process at `--times` the rate at which the server takes them while its queue is full: that
is measured before, and again every ten seconds, as what else the machine does changes. `--leave`
of the clients go away before their answer's end, at a random moment. Each answer is compared with
what the model gives the request alone: ids, text and log-probabilities, bit for bit. /metrics is
read every second and must add up, /health is timed beside it; every ten seconds memory and open
files are noted. What the server is told beside its model: MORE. Ends with a line of JSON; exit
status 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np

import gpt2onnx
from benchmarks.machine import load, machine
from benchmarks.serve.client import Address, Exchange, ask
from benchmarks.serve.mix import Wanted, fault, pool
from benchmarks.serve.servers import Server, free_port, ours

MORE = (
    *("--max-rows", "16", "--max-waiting", "32", "--queue-timeout", "5"),
    *("--max-tokens", "6000", "--prefix-cache", "32M"),
)
CAPACITY_S, AT_ONCE, MEASURE_S = 20.0, 24, 10.0
STATES = ("finished", "cancelled", "expired", "failed")
NOW = ("running", "waiting", "frozen")


class Tally:
    """What came of everything so far."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.faults: list[str] = []
        self.taken: list[tuple[float, Any]] = []

    def note(self, wanted: Wanted, exchange: Exchange) -> None:
        """An exchange that is over."""
        self.counts["sent"] += 1
        if exchange.error:
            self.counts["broken"] += 1
            self.blame(f"{wanted.kind}: {exchange.error}")
        elif exchange.was_left and not exchange.pieces:
            self.counts["left"] += 1
        elif exchange.status == 503:
            self._refused(exchange)
        elif exchange.status != 200:
            self.counts["failed"] += 1
            self.blame(f"{wanted.kind}: status {exchange.status}: {exchange.body[:200]!r}")
        else:
            self._answered(wanted, exchange)

    def _refused(self, exchange: Exchange) -> None:
        code = exchange.json()["error"]["code"]
        self.counts[code] += 1
        self.seconds[code].append(exchange.seconds)
        if not exchange.headers.get("retry-after", "").isdecimal():
            self.blame(f"503 {code} without Retry-After")

    def _answered(self, wanted: Wanted, exchange: Exchange) -> None:
        self.counts["left" if exchange.was_left else "answered"] += 1
        if not exchange.was_left:
            self.seconds[wanted.kind].append(exchange.seconds)
            self.counts["tokens"] += sum(len(ids) for ids, _, _ in wanted.answer)
        if why := fault(wanted, exchange):
            self.counts["wrong"] += 1
            self.blame(f"{wanted.kind}: {why}")

    def blame(self, what: str) -> None:
        self.counts["faults"] += 1
        if len(self.faults) < 20:
            self.faults.append(what)
            print(f"FAULT {what}", file=sys.stderr, flush=True)


def scraped(text: bytes) -> dict[str, float]:
    """The engine's gauges and counters, without their labels."""
    pairs = (line.rsplit(" ", 1) for line in text.decode().splitlines() if "model_name=" in line)
    return {name.partition("{")[0].removeprefix("gpt2onnx:"): float(value) for name, value in pairs}


def sums(values: dict[str, float]) -> tuple[float, float]:
    """What was accepted, and what became of it; both are the same at every scrape."""
    now = sum(values[f"num_requests_{state}"] for state in NOW)
    return values["requests_accepted_total"], now + sum(
        values[f"requests_{state}_total"] for state in STATES
    )


class Endurance:
    """One run against a server."""

    def __init__(self, server: Server, wanted: list[Wanted], leave: float, seed: int = 0) -> None:
        self.server, self.address = server, Address(server.port)
        self.wanted, self.leave = wanted, leave
        self.rng = np.random.default_rng(seed)
        self.tally = Tally()
        self.typical = 1.0  # seconds of an answer
        self.rate = 1.0  # requests a second that it takes

    async def capacity(self) -> float:
        """Requests a second that the server finishes when there are always some waiting."""
        began = time.monotonic()

        async def client() -> None:
            while time.monotonic() < began + CAPACITY_S:
                wanted = self._draw()
                self.tally.note(wanted, await ask(self.address, wanted.path, wanted.body))

        await asyncio.gather(*[client() for _ in range(AT_ONCE)])
        self.rate = self.tally.counts["answered"] / (time.monotonic() - began)
        self.typical = AT_ONCE / self.rate
        return self.rate

    async def overload(self, times: float, seconds: float, requests: float) -> float:
        """Requests at random times until either is over; gives the client's share of a core."""
        watching = [asyncio.create_task(each) for each in self._watchers()]
        began, processor, sent = time.perf_counter(), time.process_time(), 0
        running: set[asyncio.Task[None]] = set()
        due = began
        while due < began + seconds and sent < requests:
            due += self.rng.exponential(1 / (times * self.rate))
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._one())
            running.add(task)
            task.add_done_callback(running.discard)
            sent += 1
        await asyncio.gather(*running)
        share = (time.process_time() - processor) / (time.perf_counter() - began)
        for each in watching:
            each.cancel()
        return share

    async def ends_empty(self) -> None:
        """A second after the last client nothing runs, waits, or has rows."""
        await asyncio.sleep(1)
        values = scraped((await ask(self.address, "/metrics")).body)
        for name in (*(f"num_requests_{state}" for state in NOW), "cache_rows"):
            if values[name]:
                self.tally.blame(f"{name} is {values[name]} after the end")

    def _draw(self) -> Wanted:
        return self.wanted[self.rng.integers(len(self.wanted))]

    async def _one(self) -> None:
        wanted = self._draw()
        leaves = self.rng.uniform() < self.leave
        after = self.rng.uniform(0, self.typical) if leaves else None
        self.tally.note(wanted, await ask(self.address, wanted.path, wanted.body, after))

    def _watchers(self) -> list[Coroutine[Any, Any, None]]:
        return [self._scrape(), self._health(), self._machine(), self._measure()]

    async def _scrape(self) -> None:
        while True:
            await asyncio.sleep(1)
            exchange = await ask(self.address, "/metrics")
            accepted, become = sums(scraped(exchange.body))
            self.tally.counts["scrapes"] += 1
            if accepted != become:
                self.tally.blame(f"accepted is {accepted}, and what became of it {become}")

    async def _measure(self) -> None:
        """Follow what the server takes: more than it was where nobody is refused."""
        before, refused, at = await self._accepted(), self.tally.counts["queue_full"], time.time()
        while True:
            await asyncio.sleep(MEASURE_S)
            after, now = await self._accepted(), time.time()
            is_full = self.tally.counts["queue_full"] > refused
            taken = (after - before) / (now - at)
            self.rate = max(1.0, (self.rate + taken) / 2 if is_full else 1.2 * self.rate)
            before, refused, at = after, self.tally.counts["queue_full"], now

    async def _accepted(self) -> float:
        return sums(scraped((await ask(self.address, "/metrics")).body))[0]

    async def _health(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            exchange = await ask(self.address, "/health")
            self.tally.seconds["health"].append(exchange.seconds)

    async def _machine(self) -> None:
        began = time.monotonic()
        while True:
            self.tally.taken.append((time.monotonic() - began, self.server.taken()))
            if len(self.tally.taken) % 6 == 1:
                self._say()
            await asyncio.sleep(10)

    def _say(self) -> None:
        at, taken = self.tally.taken[-1]
        words = (f"{name} {count}" for name, count in sorted(self.tally.counts.items()))
        print(f"{at:.0f} s, {self.rate:.1f}/s, {taken}: {', '.join(words)}", file=sys.stderr)


def figures(tally: Tally) -> dict[str, Any]:
    """Times as quantiles, and memory before and after."""
    taken = tally.taken
    after = taken[max(1, len(taken) // 10) :] or taken  # the first tenth warms up
    tail = [each.anonymous_mb for _, each in taken[-max(1, len(taken) // 10) :]]
    return {
        "counts": dict(tally.counts),
        "seconds": {
            name: {f"p{q}": float(np.percentile(values, q)) for q in (50, 99, 100)}
            for name, values in sorted(tally.seconds.items())
        },
        "anonymous_mb": {
            "first": taken[0][1].anonymous_mb,
            "warm": after[0][1].anonymous_mb,
            "last": float(np.median(tail)),
            "most": max(each.anonymous_mb for _, each in taken),
        },
        "files": {"most": max(e.files for _, e in taken), "last": taken[-1][1].files},
        "threads": {"most": max(e.threads for _, e in taken)},
        "faults": tally.faults,
    }


async def run(args: argparse.Namespace, server: Server, wanted: list[Wanted]) -> dict[str, Any]:
    run = Endurance(server, wanted, args.leave)
    capacity = await run.capacity()
    capacity_counts, run.tally.counts = run.tally.counts, Counter()
    run.tally.seconds.clear()
    print(f"capacity: {capacity:.1f} requests/s, {dict(capacity_counts)}", file=sys.stderr)
    minutes = args.minutes if args.requests is None else np.inf
    began = time.monotonic()
    share = await run.overload(args.times, minutes * 60, args.requests or np.inf)
    seconds = time.monotonic() - began
    await run.ends_empty()
    run.tally.taken.append((run.tally.taken[-1][0], server.taken()))
    return {
        "capacity_requests_per_s": capacity,
        "sent_requests_per_s": run.tally.counts["sent"] / seconds,
        "answered_requests_per_s": run.tally.counts["answered"] / seconds,
        "tokens_per_s": run.tally.counts["tokens"] / seconds,
        "client_share": share,
        **figures(run.tally),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--requests", type=int, help="end after so many instead")
    parser.add_argument("--times", type=float, default=2, help="the capacity")
    parser.add_argument("--leave", type=float, default=0.3, help="share of clients that go away")
    parser.add_argument("--pool", type=int, default=400, help="different requests")
    parser.add_argument("--out", type=Path, default=Path("build/endure.json"))
    args, more = parser.parse_known_args()
    wanted = pool(gpt2onnx.load(args.model, provider="cpu", threads=1), args.pool)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    port, options = free_port(), [*MORE, *more]
    began = time.monotonic()
    with Server(ours(args.model, port, *options), port, args.out.with_suffix(".log")) as server:
        server.wait_until_ready()
        found = asyncio.run(run(args, server, wanted))
        status = server.close()
    found |= {"exit_status": status, "options": options, "seconds_in_all": time.monotonic() - began}
    found |= {"machine": machine(), "load_after": load()}
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))
    return int(bool(found["faults"]) or status != 0)


if __name__ == "__main__":
    sys.exit(main())
