"""Other runtimes beside this package: agreement and times in one table, and what they are.

Knows a record's runs; measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gpt2onnx.compare.record.record import Record
from gpt2onnx.compare.record.runs import Missing, Run
from gpt2onnx.compare.report.words import NOTHING, VERDICTS, Table, number


def runtime_tables(record: Record) -> list[Table]:
    smallest, *larger = sorted(record.asked.grid.batch)
    runs = [run for run in record.measured if run.cell.batch == smallest]
    head = [
        *("configuration", "context", "verdict", "top-1", "first token ms", "of first"),
        *("step ms", "of first", "resident MB"),
        *(f"tokens/s at batch {batch}" for batch in larger),
    ]
    by_cell = {run.cell: run for run in record.runs}
    rows = [
        _row(run, runs) + [_speed(by_cell.get(replace(run.cell, batch=each))) for each in larger]
        for run in runs
    ]
    programs = [
        [str(each.configuration), each.program.version, each.program.graph or NOTHING]
        for each in record.answers
        if each.program
    ]
    return [
        Table(
            "Side by side",
            f"At batch {smallest}{', but for the last columns' * bool(larger)}. Of first: how many "
            "times as fast as the first row of its precision and context. "
            f"{' and '.join(record.asked.grid.providers)}: gpt2onnx itself, tokens to text "
            "included; the others are timed in a bare greedy loop.",
            [head, *rows],
        ),
        Table(
            "Which runtimes?",
            "The version that ran, and the graph of `gpt2onnx export --for` that it was given.",
            [["configuration", "version", "graph"], *programs],
        ),
    ]


def _row(run: Run, runs: Sequence[Run]) -> list[str]:
    agreement, speed = run.agreement, run.speed
    return [
        str(run.cell.configuration),
        str(run.cell.context),
        VERDICTS[agreement.partings.verdict] if agreement else NOTHING,
        f"{agreement.figures.top1_agreement:.2%}" if agreement else NOTHING,
        number(speed.first_token_s, 1e-3),
        number(_times_as_fast(run, runs, lambda each: each.speed.first_token_s)),
        number(speed.step_ms.median),
        number(_times_as_fast(run, runs, lambda each: each.speed.step_ms.median)),
        number(speed.memory.resident_bytes, 1e6),
    ]


def _speed(run: Run | Missing | None) -> str:
    """Tokens a second; the reason why there are none is in a table of its own."""
    if isinstance(run, Missing):
        return "not there"
    return number(run.speed.tokens_per_s if run else None)


def _times_as_fast(run: Run, runs: Sequence[Run], time: Callable[[Run], float]) -> float | None:
    """The first one's time over this one's; None where this one's is nothing."""
    first = next(each for each in runs if _alike(each) == _alike(run))
    return time(first) / time(run) if time(run) else None


def _alike(run: Run) -> tuple[str, int]:
    return run.cell.configuration.precision, run.cell.context
