"""What a record comes to, in sentences that terminal, Markdown and page show alike.

Knows a record as plain data (docs/compare-schema.md); knows no table and no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpt2onnx.compare.report.cost import cheaper, faster
from gpt2onnx.compare.report.tables import VERDICTS, Data, name_of, number, ok_runs

# What a run's `energy.reasons` are of.
UNKNOWN = {
    "cpu": "energy of the processor",
    "device": "energy of the GPU",
    "device_bytes": "memory of the GPU",
}


def findings(record: Data) -> list[str]:
    """What the tables come to, in sentences."""
    fastest = [
        f"Batch {run['batch']}, context {run['context']}: {name_of(run)} writes the most, "
        f"{number(run['tokens_per_s'])} tokens/s."
        for run in _best_by_cell(record)
    ]
    pays = [_pays(cross, record) for cross in record["crossovers"]]
    unknown = dict.fromkeys(
        f"No {UNKNOWN[figure]}: {reason}."
        for run in ok_runs(record)
        for figure, reason in run["energy"]["reasons"].items()
    )
    return [*_doubts(record), *fastest, *pays, *_ratio(record["prices"]), *unknown]


def _doubts(record: Data) -> list[str]:
    """Whose times are to be doubted, before any: a fast wrong answer is not fast."""
    said = []
    for each in record["answers"]:
        if each["placement"] and not each["agreement"]:
            said.append(f"{name_of(each)}: its answers could not be compared: {each['reason']}.")
        elif each["agreement"] and each["agreement"]["verdict"] == "differs":
            said.append(
                f"{name_of(each)} {VERDICTS['differs']}: it writes another text where the "
                f"reference is sure of its own; top-1 {each['agreement']['top1_agreement']:.2%}."
            )
    return said


def _pays(cross: Data, record: Data) -> str:
    """At which batches a GPU configuration pays, by speed and where prices are known by them."""
    runs, here = ok_runs(record), (name_of(cross), cross["context"])
    mine = [run for run in runs if (name_of(run), run["context"]) == here]
    where_faster = [run["batch"] for run in mine if faster(runs, run)]
    said = [_where("faster than the CPU", cross["by_speed"], where_faster)]
    if all(record["prices"].values()):
        where_cheaper = [run["batch"] for run in mine if cheaper(runs, run)]
        said.append(_where("cheaper", cross["by_price"], where_cheaper))
    return f"{name_of(cross)}, context {cross['context']}: {', '.join(said)}."


def _where(what: str, first: int | None, batches: Sequence[int]) -> str:
    """From `first` on; else at those `batches`, beside larger ones where it isn't so."""
    if first:
        return f"{what} from batch {first} on"
    if batches:
        return f"{what} at batch {', '.join(map(str, sorted(batches)))} but not from there on"
    return f"never {what}"


def _ratio(prices: Data) -> list[str]:
    if not all(prices.values()):
        return []
    return [
        "At these prices a GPU is the cheaper place where it writes more than "
        f"{prices['gpu'] / prices['cpu']:.3g} times the CPU's tokens a second."
    ]


def _best_by_cell(record: Data) -> list[Data]:
    best: dict[tuple[int, int], Data] = {}
    for run in ok_runs(record):
        cell = run["batch"], run["context"]
        if cell not in best or run["tokens_per_s"] > best[cell]["tokens_per_s"]:
            best[cell] = run
    return list(best.values())
