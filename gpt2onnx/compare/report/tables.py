"""A record as tables, which terminal, Markdown and page show alike.

Knows a record as plain data (docs/compare-schema.md); knows no HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

Data: TypeAlias = Mapping[str, Any]
NOTHING = "-"
VERDICTS = {"same": "same texts", "near-ties": "same but for near-ties", "differs": "DIFFERS"}


class Table(NamedTuple):
    """A heading, what to know before reading, and rows under their head."""

    title: str
    note: str
    rows: list[list[str]]


def tables(record: Data) -> list[Table]:
    """Those that have rows."""
    reference = "{provider} {precision}".format(**record["reference"])
    made = [
        Table(
            "Same answers?",
            f"Beside {reference}, along {len(record['prompts'])} prompts and what it writes on "
            "from them. A near-tie: where a text parts from the reference's, the reference itself "
            "gave the other token at least half of its own token's probability.",
            _answers(record),
        ),
        Table(
            "How fast?",
            "First token: all prompts of the batch read, and a token of each. A step writes one "
            "token of every sequence. The last two: tokens a second, as a multiple of the fastest "
            "CPU run's and of fp32's on the CPU, at the same batch and context.",
            _speeds(record),
        ),
        Table(
            "At what cost?",
            "Memory with the model and the cache, as the last step was done. Energy is the whole "
            "processor's and the whole device's, by token. Break-even: below this price an hour "
            "the GPU's tokens are cheaper.",
            _costs(record),
        ),
        Table(
            "Where did it run?",
            "The nodes of one decode step, by ONNX Runtime's profile of it. Captured: later steps "
            "replay it as one CUDA graph.",
            _places(record),
        ),
        Table("Not there", "", _missing(record)),
    ]
    return [table for table in made if len(table.rows) > 1]


def texts(record: Data) -> list[tuple[str, Data]]:
    """Each text that parts from the reference's, and whose it is."""
    return [
        (f"{name_of(each)}, prompt {index}", text)
        for each in record["answers"]
        if each["agreement"]
        for index, text in enumerate(each["agreement"]["texts"], 1)
        if text["parts_at"] is not None
    ]


def facts(record: Data) -> list[tuple[str, str]]:
    machine, grid = record["machine"], record["grid"]
    return [
        ("model", record["model"]["name"]),
        ("processor", machine["processor"]),
        ("threads", str(grid["threads"] or machine["default_threads"])),
        ("GPU", machine["gpu"] or "none that NVML tells of"),
        ("runtime", f"{machine['onnxruntime']}, gpt2onnx {record['gpt2onnx']}"),
        ("new tokens", str(grid["new_tokens"])),
        ("TF32", "on" if grid["tf32"] else "off"),
        ("CUDA graphs", "on" if grid["cuda_graph"] else "off"),
        *(
            (f"{name.upper()} price", f"${price:g} an hour")
            for name, price in record["prices"].items()
            if price is not None
        ),
    ]


def number(value: float | None, unit: float = 1) -> str:
    """Three figures of value / unit; a dash for what isn't known."""
    if value is None:
        return NOTHING
    value /= unit
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _answers(record: Data) -> list[list[str]]:
    head = [
        *("configuration", "verdict", "top-1", "mean KL", "logits 99.9 %", "logits max"),
        *("texts parted", "near-ties", "first at"),
    ]
    compared = [each for each in record["answers"] if each["agreement"]]
    return [head, *(_answer(each, each["agreement"]) for each in compared)]


def _answer(entry: Data, found: Data) -> list[str]:
    first = found["first_parting"]
    return [
        name_of(entry),
        VERDICTS[found["verdict"]],
        f"{found['top1_agreement']:.2%}",
        f"{found['kl_mean']:.1e}",
        number(found["logit_difference_p999"]),
        number(found["max_logit_difference"]),
        f"{found['texts_parted']} of {len(found['texts'])}",
        str(found["near_ties"]),
        NOTHING if first is None else str(first + 1),
    ]


def _speeds(record: Data) -> list[list[str]]:
    head = [
        *("configuration", "batch", "context", "load s", "first token ms", "step ms", "p95 ms"),
        *("tokens/s", "of best CPU", "of CPU fp32"),
    ]
    return [
        head,
        *(
            [
                *_cell(run),
                number(run["load_s"]),
                number(run["first_token_s"], 1e-3),
                number(run["step_ms"]["median"]),
                number(run["step_ms"]["p95"]),
                number(run["tokens_per_s"]),
                number(run["speedup_over_best_cpu"]),
                number(run["speedup_over_cpu_fp32"]),
            ]
            for run in ok_runs(record)
        ),
    ]


def _costs(record: Data) -> list[list[str]]:
    head = [
        *("configuration", "batch", "context", "resident MB", "of it anonymous", "device MB"),
        *("CPU J/token", "device J/token", "$ a million tokens", "break-even $/h"),
    ]
    return [
        head,
        *(
            [
                *_cell(run),
                *(number(run["memory"][name], 1e6) for name in run["memory"]),
                number(run["energy"]["cpu_joules_per_token"]),
                number(run["energy"]["device_joules_per_token"]),
                number(run["dollars_per_million_tokens"]),
                number(run["break_even_price"]),
            ]
            for run in ok_runs(record)
        ),
    ]


def _places(record: Data) -> list[list[str]]:
    head = ["configuration", "ran on", "share of nodes", "copies between devices", "elsewhere"]
    rows = []
    for each in record["answers"]:
        if placement := each["placement"]:
            elsewhere = {
                op: count
                for provider, ops in placement["nodes"].items()
                if provider != placement["provider"]
                for op, count in ops.items()
            }
            rows.append(
                [
                    name_of(each),
                    placement["provider"] + (", captured" if placement["captured"] else ""),
                    f"{placement['share']:.1%}",
                    str(placement["copies"]),
                    ", ".join(f"{count} {op}" for op, count in elsewhere.items()) or NOTHING,
                ]
            )
    return [head, *rows]


def _missing(record: Data) -> list[list[str]]:
    """Answers and runs that are not there, each reason of a configuration once."""
    missing: dict[tuple[str, str], list[Data]] = {}
    for each in [*record["answers"], *record["runs"]]:
        if each["status"] != "ok":
            missing.setdefault((name_of(each), each["reason"]), []).append(each)
    return [
        ["configuration", "what", "reason"],
        *([name, _what(each), reason] for (name, reason), each in missing.items()),
    ]


def _what(missing: Sequence[Data]) -> str:
    """Each run by batch and context; of more than a few how many there are."""
    runs = [f"{each['batch']} at {each['context']}" for each in missing if "batch" in each]
    answers = ["answers"] if len(runs) < len(missing) else []
    return ", ".join(answers + (runs if len(runs) <= 3 else [f"{len(runs)} runs"]))


def ok_runs(record: Data) -> list[Data]:
    """Those that went well."""
    return [run for run in record["runs"] if run["status"] == "ok"]


def name_of(entry: Data) -> str:
    """A configuration in two words."""
    return f"{entry['provider']} {entry['precision']}"


def _cell(run: Data) -> list[str]:
    return [name_of(run), str(run["batch"]), str(run["context"])]
