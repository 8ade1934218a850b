"""Costs from speeds and prices: speed-ups, dollars, and when a GPU pays.

A provider that isn't the CPU is taken for a GPU. Knows a record's runs; measures nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from gpt2onnx.compare.record.costs import Cost, Crossover, Prices
from gpt2onnx.compare.record.grid import CPU, REFERENCE, Configuration
from gpt2onnx.compare.record.record import Record, measured
from gpt2onnx.compare.record.runs import Missing, Run


def priced(record: Record, prices: Prices) -> Record:
    """The record with what follows from its runs and these prices."""
    runs = with_costs(record.runs, prices)
    crossed = crossovers(measured(runs))
    return replace(record, runs=runs, prices=prices, crossovers=crossed)


def with_costs(runs: Sequence[Run | Missing], prices: Prices) -> list[Run | Missing]:
    """Runs with speed-ups, dollars and break-even price, of those that went well."""
    every = measured(runs)
    return [
        replace(run, cost=_cost(run, every, prices)) if isinstance(run, Run) else run
        for run in runs
    ]


def _cost(run: Run, runs: Sequence[Run], prices: Prices) -> Cost:
    best, plain = _over(run, best_cpu(runs, run)), _over(run, _cpu_in_fp32(runs, run))
    price = prices.of(run.cell.configuration.provider)
    return Cost(
        speedup_over_best_cpu=best,
        speedup_over_cpu_fp32=plain,
        dollars_per_million_tokens=_dollars(price, run.speed.tokens_per_s) if price else None,
        # Below this price an hour the GPU's tokens are cheaper than the best CPU run's.
        break_even_price=prices.cpu * best if best and prices.cpu and not on_cpu(run) else None,
    )


def _over(run: Run, other: Run | None) -> float | None:
    return run.speed.tokens_per_s / other.speed.tokens_per_s if other else None


def _dollars(price: float, tokens_per_s: float) -> float:
    """For a million tokens, at a price an hour."""
    return price / 3600 / tokens_per_s * 1e6


def on_cpu(run: Run) -> bool:
    return run.cell.configuration.provider == CPU


def best_cpu(runs: Sequence[Run], like: Run) -> Run | None:
    """The fastest run on the CPU at the same batch and context."""
    there = [run for run in _alike(runs, like) if on_cpu(run)]
    return max(there, key=lambda run: run.speed.tokens_per_s, default=None)


def _cpu_in_fp32(runs: Sequence[Run], like: Run) -> Run | None:
    found = (run for run in _alike(runs, like) if run.cell.configuration == REFERENCE)
    return next(found, None)


def _alike(runs: Sequence[Run], like: Run) -> list[Run]:
    here = like.cell.batch, like.cell.context
    return [run for run in runs if (run.cell.batch, run.cell.context) == here]


def crossovers(runs: Sequence[Run]) -> list[Crossover]:
    """For each GPU configuration and context, the batch from which on it pays.

    by_speed: the smallest batch from which on, at every larger one too, it writes more tokens a
    second than the best CPU run. by_price: the same with fewer dollars a token. None where there is
    no such batch, or no price. Only batches that the CPU ran tell anything; one of them that the
    GPU didn't run is one where it doesn't pay.
    """
    groups: dict[tuple[Configuration, int], list[Run]] = {}
    for run in runs:
        if not on_cpu(run) and best_cpu(runs, run) is not None:
            groups.setdefault((run.cell.configuration, run.cell.context), []).append(run)
    return [_crossover(runs, *key, mine) for key, mine in groups.items()]


def _crossover(
    runs: Sequence[Run], configuration: Configuration, context: int, mine: Sequence[Run]
) -> Crossover:
    batches = {run.cell.batch for run in runs if on_cpu(run) and run.cell.context == context}
    return Crossover(
        configuration,
        context,
        by_speed=_first(batches, [run.cell.batch for run in mine if faster(runs, run)]),
        by_price=_first(batches, [run.cell.batch for run in mine if cheaper(runs, run)]),
    )


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
    return best is not None and run.speed.tokens_per_s > best.speed.tokens_per_s


def cheaper(runs: Sequence[Run], run: Run) -> bool:
    """Whether its tokens cost fewer dollars than that one's; not where a price isn't known."""
    best = best_cpu(runs, run)
    mine = run.cost.dollars_per_million_tokens
    theirs = best.cost.dollars_per_million_tokens if best else None
    return mine is not None and theirs is not None and mine < theirs
