"""A record's results in sentences, for terminal, Markdown and page.

Knows no table and no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpt2onnx.compare.record.costs import Crossover, Prices
from gpt2onnx.compare.record.record import Record
from gpt2onnx.compare.record.runs import Figure, Run
from gpt2onnx.compare.report.cost import cheaper, faster
from gpt2onnx.compare.report.words import VERDICTS, number

# What a run's `energy.reasons` are of.
UNKNOWN: dict[Figure, str] = {
    "cpu": "energy of the processor",
    "device": "energy of the GPU",
    "device_bytes": "memory of the GPU",
}


def findings(record: Record) -> list[str]:
    """What the tables come to, in sentences."""
    fastest = [
        f"Batch {run.cell.batch}, context {run.cell.context}: {run.cell.configuration} writes the "
        f"most, {number(run.speed.tokens_per_s)} tokens/s."
        for run in _best_by_cell(record)
    ]
    pays = [_pays(cross, record) for cross in record.crossovers]
    unknown = dict.fromkeys(
        f"No {UNKNOWN[figure]}: {reason}."
        for run in record.measured
        for figure, reason in run.speed.energy.reasons.items()
    )
    return [*_doubts(record), *fastest, *pays, *_ratio(record.prices), *unknown]


def _doubts(record: Record) -> list[str]:
    """Whose times are to be doubted, before any: a fast wrong answer is not fast."""
    said = []
    for each in record.answers:
        if each.placement and not each.agreement:
            said.append(f"{each.configuration}: its answers could not be compared: {each.reason}.")
        elif each.agreement and each.agreement.partings.verdict == "differs":
            said.append(
                f"{each.configuration} {VERDICTS['differs']}: it writes another text where the "
                f"reference is sure of its own; top-1 {each.agreement.figures.top1_agreement:.2%}."
            )
    return said


def _pays(cross: Crossover, record: Record) -> str:
    """At which batches a GPU configuration pays, by speed and where prices are known by them."""
    runs, here = record.measured, (cross.configuration, cross.context)
    mine = [run for run in runs if (run.cell.configuration, run.cell.context) == here]
    where_faster = [run.cell.batch for run in mine if faster(runs, run)]
    said = [_where("faster than the CPU", cross.by_speed, where_faster)]
    if record.prices.cpu and record.prices.gpu:
        where_cheaper = [run.cell.batch for run in mine if cheaper(runs, run)]
        said.append(_where("cheaper", cross.by_price, where_cheaper))
    return f"{cross.configuration}, context {cross.context}: {', '.join(said)}."


def _where(what: str, first: int | None, batches: Sequence[int]) -> str:
    """From `first` on; else at those `batches`, beside larger ones where it isn't so."""
    if first:
        return f"{what} from batch {first} on"
    if batches:
        return f"{what} at batch {', '.join(map(str, sorted(batches)))} but not from there on"
    return f"never {what}"


def _ratio(prices: Prices) -> list[str]:
    if prices.cpu is None or prices.gpu is None:
        return []
    return [
        "At these prices a GPU is the cheaper place where it writes more than "
        f"{prices.gpu / prices.cpu:.3g} times the CPU's tokens a second."
    ]


def _best_by_cell(record: Record) -> list[Run]:
    best: dict[tuple[int, int], Run] = {}
    for run in record.measured:
        cell = run.cell.batch, run.cell.context
        if cell not in best or run.speed.tokens_per_s > best[cell].speed.tokens_per_s:
            best[cell] = run
    return list(best.values())
