"""compare.html: the report as one self-contained page with plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from gpt2onnx.compare.record.answers import Answers, Parting
from gpt2onnx.compare.record.grid import Configuration
from gpt2onnx.compare.record.record import Record
from gpt2onnx.compare.record.runs import Run
from gpt2onnx.compare.report.findings import findings
from gpt2onnx.compare.report.tables import facts, tables, texts, title
from gpt2onnx.compare.report.words import Table
from gpt2onnx.page.chart import Line, chart
from gpt2onnx.page.frame import frame, section


class Plot(NamedTuple):
    """A chart with its title, what to know before reading, and the names of both axes."""

    title: str
    note: str
    lines: list[Line]
    across: str
    up: str


def render(record: Record) -> str:
    """The page. Plots that have nothing to show are left out."""
    said = "".join(f"<li>{escape(line)}</li>" for line in findings(record))
    body = [
        section("In short", "", f"<ul>{said}</ul>" if said else ""),
        *map(_plot, _plots(record)),
        *(section(each.title, escape(each.note), _table(each)) for each in tables(record)),
        section("Where texts part", "", "".join(_text(*each) for each in texts(record))),
    ]
    return frame(title(record), title(record), facts(record), "\n".join(body))


def _plot(plot: Plot) -> str:
    drawn = chart(plot.title, plot.lines, plot.across, plot.up)
    return section(plot.title, plot.note, drawn)


def _plots(record: Record) -> list[Plot]:
    grid = record.asked.grid
    small, short = min(grid.batch), min(grid.context)
    runs = record.measured
    at_small = [run for run in runs if run.cell.batch == small]
    at_short = [run for run in runs if run.cell.context == short]
    return [
        Plot(
            "Latency against context",
            f"Milliseconds a decode step, median, at batch {small}.",
            _lines(record, at_small, _context, lambda run: run.speed.step_ms.median),
            *("context, tokens", "ms a step"),
        ),
        Plot(
            "Throughput against batch",
            f"Tokens a second, all sequences together, at context {short}.",
            _lines(record, at_short, _batch, lambda run: run.speed.tokens_per_s),
            *("batch", "tokens/s"),
        ),
        Plot(
            "Agreement by position",
            "KL divergence from the reference at each position of the texts, their mean, in nats.",
            [_by_position(each) for each in record.answers],
            *("position", "KL, nats"),
        ),
        Plot(
            "Cost",
            f"Dollars for a million tokens at the given prices, at context {short}.",
            _lines(record, at_short, _batch, lambda run: run.cost.dollars_per_million_tokens),
            *("batch", "$ a million tokens"),
        ),
    ]


def _batch(run: Run) -> int:
    return run.cell.batch


def _context(run: Run) -> int:
    return run.cell.context


def _lines(
    record: Record,
    runs: Sequence[Run],
    across: Callable[[Run], int],
    up: Callable[[Run], float | None],
) -> list[Line]:
    """A line for each configuration: a figure of its runs, where there is one."""
    return [
        Line(str(each.configuration), _points(each.configuration, runs, across, up))
        for each in record.answers
    ]


def _points(
    configuration: Configuration,
    runs: Sequence[Run],
    across: Callable[[Run], int],
    up: Callable[[Run], float | None],
) -> list[tuple[float, float]]:
    mine = [run for run in runs if run.cell.configuration == configuration]
    figures = ((across(run), up(run)) for run in mine)
    return sorted((x, y) for x, y in figures if y is not None)


def _by_position(each: Answers) -> Line:
    """Without what equals the reference: a logarithm has no place for it."""
    found = each.agreement.by_position.kl if each.agreement else []
    points = [(place, kl) for place, kl in enumerate(found, 1) if kl > 0]
    return Line(str(each.configuration), points, marked=False)


def _table(table: Table) -> str:
    head, *rows = table.rows
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(_row(row) for row in rows)
    return (
        '<div class="scroll" tabindex="0" role="group" aria-label="table"><table class="figures">'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: Sequence[str]) -> str:
    first, *others = map(escape, row)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'


def _text(name: str, text: Parting) -> str:
    tie = "a near-tie" if text.near_tie else "no near-tie"
    before = escape(text.before)
    sides = "".join(
        f"<div><h3>{side}</h3><pre>{before}<mark>{escape(shown)}</mark></pre></div>"
        for side, shown in (("reference", text.reference), ("candidate", text.candidate))
    )
    return (
        f'<p class="note">{escape(name)}: at token {text.parts_at + 1}, {tie}, margin '
        f'{text.margin:.2g}</p><div class="sides">{sides}</div>'
    )
