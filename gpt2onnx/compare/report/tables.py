"""A record as tables, for terminal, Markdown and page.

Knows no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpt2onnx.compare.record.answers import Agreement, Parting, Placement
from gpt2onnx.compare.record.grid import Configuration
from gpt2onnx.compare.record.record import Record
from gpt2onnx.compare.record.runs import Missing, Run
from gpt2onnx.compare.report.runtimes import runtime_tables
from gpt2onnx.compare.report.words import NOTHING, VERDICTS, Table, cell_words, number


def tables(record: Record) -> list[Table]:
    """Those that have rows."""
    asked = record.asked
    made = [
        *(runtime_tables(record) if asked.grid.runtimes else ()),
        Table(
            "Same answers?",
            f"Beside {asked.reference}, along {len(asked.prompts)} prompts and what it writes on "
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


def title(record: Record) -> str:
    return "On which runtime?" if record.asked.grid.runtimes else "CPU or GPU?"


def texts(record: Record) -> list[tuple[str, Parting]]:
    """Each text that parts from the reference's, and whose it is."""
    return [
        (f"{each.configuration}, prompt {index}", text)
        for each in record.answers
        if each.agreement
        for index, text in enumerate(each.agreement.texts, 1)
        if isinstance(text, Parting)
    ]


def facts(record: Record) -> list[tuple[str, str]]:
    asked, prices = record.asked, record.prices
    machine, grid = asked.machine, asked.grid
    return [
        ("model", asked.model.name),
        ("processor", machine.processor),
        ("threads", str(grid.threads or machine.default_threads)),
        ("GPU", machine.gpu or "none that NVML tells of"),
        ("runtime", f"{machine.onnxruntime}, gpt2onnx {asked.gpt2onnx}"),
        ("new tokens", str(grid.new_tokens)),
        ("TF32", "on" if grid.tf32 else "off"),
        ("CUDA graphs", "on" if grid.cuda_graph else "off"),
        *(
            (f"{name} price", f"${price:g} an hour")
            for name, price in (("CPU", prices.cpu), ("GPU", prices.gpu))
            if price is not None
        ),
    ]


def _answers(record: Record) -> list[list[str]]:
    head = [
        *("configuration", "verdict", "top-1", "mean KL", "logits 99.9 %", "logits max"),
        *("texts parted", "near-ties", "first at"),
    ]
    return [
        head,
        *(_answer(each.configuration, each.agreement) for each in record.answers if each.agreement),
    ]


def _answer(configuration: Configuration, agreement: Agreement) -> list[str]:
    figures, parted = agreement.figures, agreement.partings
    return [
        str(configuration),
        VERDICTS[parted.verdict],
        f"{figures.top1_agreement:.2%}",
        f"{figures.kl_mean:.1e}",
        number(figures.logit_difference_p999),
        number(figures.max_logit_difference),
        f"{parted.texts_parted} of {len(agreement.texts)}",
        str(parted.near_ties),
        NOTHING if parted.first_parting is None else str(parted.first_parting + 1),
    ]


def _speeds(record: Record) -> list[list[str]]:
    head = [
        *("configuration", "batch", "context", "load s", "first token ms", "step ms", "p95 ms"),
        *("tokens/s", "of best CPU", "of CPU fp32"),
    ]
    return [head, *map(_speed, record.measured)]


def _speed(run: Run) -> list[str]:
    speed, cost = run.speed, run.cost
    return [
        *cell_words(run.cell),
        number(speed.load_s),
        number(speed.first_token_s, 1e-3),
        number(speed.step_ms.median),
        number(speed.step_ms.p95),
        number(speed.tokens_per_s),
        number(cost.speedup_over_best_cpu),
        number(cost.speedup_over_cpu_fp32),
    ]


def _costs(record: Record) -> list[list[str]]:
    head = [
        *("configuration", "batch", "context", "resident MB", "of it anonymous", "device MB"),
        *("CPU J/token", "device J/token", "$ a million tokens", "break-even $/h"),
    ]
    return [head, *map(_cost, record.measured)]


def _cost(run: Run) -> list[str]:
    memory, energy, cost = run.speed.memory, run.speed.energy, run.cost
    return [
        *cell_words(run.cell),
        number(memory.resident_bytes, 1e6),
        number(memory.anonymous_bytes, 1e6),
        number(memory.device_bytes, 1e6),
        number(energy.cpu_joules_per_token),
        number(energy.device_joules_per_token),
        number(cost.dollars_per_million_tokens),
        number(cost.break_even_price),
    ]


def _places(record: Record) -> list[list[str]]:
    head = ["configuration", "ran on", "share of nodes", "copies between devices", "elsewhere"]
    return [
        head,
        *(_place(each.configuration, each.placement) for each in record.answers if each.placement),
    ]


def _place(configuration: Configuration, placement: Placement) -> list[str]:
    ran = placement.ran
    elsewhere = [
        f"{count} {op}"
        for provider, ops in placement.nodes.items()
        if provider != ran.provider
        for op, count in ops.items()
    ]
    return [
        str(configuration),
        ran.provider + (", captured" if ran.captured else ""),
        f"{ran.share:.1%}",
        str(ran.copies),
        ", ".join(elsewhere) or NOTHING,
    ]


def _missing(record: Record) -> list[list[str]]:
    """Answers and runs that are not there, each reason of a configuration once."""
    missing: dict[tuple[str, str], list[str]] = {}
    for each in record.answers:
        if each.reason is not None:
            missing.setdefault((str(each.configuration), each.reason), []).append("answers")
    for run in record.runs:
        if isinstance(run, Missing):
            where = f"{run.cell.batch} at {run.cell.context}"
            missing.setdefault((str(run.cell.configuration), run.reason), []).append(where)
    return [
        ["configuration", "what", "reason"],
        *([name, _what(each), reason] for (name, reason), each in missing.items()),
    ]


def _what(missing: Sequence[str]) -> str:
    """Each run by batch and context; of more than a few how many there are."""
    answers = [each for each in missing if each == "answers"][:1]
    runs = missing[len(answers) :]
    return ", ".join([*answers, *(runs if len(runs) <= 3 else [f"{len(runs)} runs"])])
