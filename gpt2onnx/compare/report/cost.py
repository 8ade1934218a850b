"""What follows from times and prices: speed-ups, dollars, and from where on a GPU pays.

A provider that isn't the CPU is taken for a GPU. Knows a record's runs; measures nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gpt2onnx.compare.grid import CPU
from gpt2onnx.errors import Given, ParameterError

Run: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Prices:
    """Dollars an hour; None where none was given. Errors: ParameterError."""

    cpu: float | None = None
    gpu: float | None = None

    def __post_init__(self) -> None:
        for name, price in (("cpu_price", self.cpu), ("gpu_price", self.gpu)):
            if price is not None and not 0 < price < float("inf"):
                raise ParameterError(Given(name, price), ": expected dollars an hour, above 0")

    def of(self, provider: str) -> float | None:
        return self.cpu if provider == CPU else self.gpu


def add_costs(runs: Sequence[dict[str, Any]], prices: Prices) -> None:
    """Give each run that went well its speed-ups, dollars and break-even price; None if unknown."""
    for run in filter(_went_well, runs):
        speed = run["tokens_per_s"]
        best, plain = best_cpu(runs, run), _cpu_in_fp32(runs, run)
        run["speedup_over_best_cpu"] = speed / best["tokens_per_s"] if best else None
        run["speedup_over_cpu_fp32"] = speed / plain["tokens_per_s"] if plain else None
        price = prices.of(run["provider"])
        run["dollars_per_million_tokens"] = _dollars(price, speed) if price else None
        # Below this price an hour the GPU's tokens are cheaper than the best CPU run's.
        run["break_even_price"] = (
            prices.cpu * speed / best["tokens_per_s"]
            if run["provider"] != CPU and best and prices.cpu
            else None
        )


def _dollars(price: float, tokens_per_s: float) -> float:
    """For a million tokens, at a price an hour."""
    return price / 3600 / tokens_per_s * 1e6


def best_cpu(runs: Sequence[Run], like: Run) -> Run | None:
    """The fastest run on the CPU at the same batch and context."""
    on_cpu = [run for run in _alike(runs, like) if run["provider"] == CPU]
    return max(on_cpu, key=lambda run: float(run["tokens_per_s"]), default=None)


def _cpu_in_fp32(runs: Sequence[Run], like: Run) -> Run | None:
    found = (r for r in _alike(runs, like) if (r["provider"], r["precision"]) == (CPU, "fp32"))
    return next(found, None)


def _alike(runs: Sequence[Run], like: Run) -> list[Run]:
    return [
        run
        for run in runs
        if _went_well(run) and all(run[name] == like[name] for name in ("batch", "context"))
    ]


def crossovers(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each GPU configuration and context, the batch from which on it pays.

    by_speed: the smallest batch from which on, at every larger one too, it writes more tokens a
    second than the best CPU run. by_price: the same with fewer dollars a token. None where there is
    no such batch, or no price. Only batches that the CPU ran tell anything; one of them that the
    GPU didn't run is one where it doesn't pay.
    """
    gpu = [
        run
        for run in runs
        if _went_well(run) and run["provider"] != CPU and best_cpu(runs, run) is not None
    ]
    keys = dict.fromkeys((run["provider"], run["precision"], run["context"]) for run in gpu)
    found = []
    for provider, precision, context in keys:
        mine = [
            run
            for run in gpu
            if (run["provider"], run["precision"], run["context"]) == (provider, precision, context)
        ]
        batches = _cpu_batches(runs, context)
        found.append(
            {
                "provider": provider,
                "precision": precision,
                "context": context,
                "by_speed": _first(batches, [run["batch"] for run in mine if faster(runs, run)]),
                "by_price": _first(batches, [run["batch"] for run in mine if cheaper(runs, run)]),
            }
        )
    return found


def _cpu_batches(runs: Sequence[Run], context: int) -> set[int]:
    on_cpu = (run for run in runs if _went_well(run) and run["provider"] == CPU)
    return {run["batch"] for run in on_cpu if run["context"] == context}


def _first(batches: Collection[int], paying: Collection[int]) -> int | None:
    """The smallest of the batches from which on all are among those that pay."""
    first: int | None = None
    for batch in sorted(batches, reverse=True):
        if batch not in paying:
            break
        first = batch
    return first


def faster(runs: Sequence[Run], run: Run) -> bool:
    """Whether a run writes more tokens a second than the best CPU run; not where there is none."""
    best = best_cpu(runs, run)
    return best is not None and bool(run["tokens_per_s"] > best["tokens_per_s"])


def cheaper(runs: Sequence[Run], run: Run) -> bool:
    """Whether its tokens cost fewer dollars than that one's; not where a price isn't known."""
    best = best_cpu(runs, run)
    mine = run["dollars_per_million_tokens"]
    theirs = best["dollars_per_million_tokens"] if best else None
    return mine is not None and theirs is not None and bool(mine < theirs)


def _went_well(run: Run) -> bool:
    return bool(run["status"] == "ok")
