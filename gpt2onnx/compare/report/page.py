"""compare.html: a record as one page that asks for no other, with its plots."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from gpt2onnx.compare.report.findings import findings
from gpt2onnx.compare.report.tables import Data, Table, facts, name_of, tables, texts
from gpt2onnx.page.chart import Line, chart
from gpt2onnx.page.frame import frame, section

# What a configuration without answers has by position.
NONE: Data = {"by_position": {"kl": []}}


def render(record: Data) -> str:
    """The page. Plots that have nothing to show are left out."""
    said = "".join(f"<li>{escape(line)}</li>" for line in findings(record))
    body = [
        section("In short", "", f"<ul>{said}</ul>" if said else ""),
        *(section(title, note, chart(title, *rest)) for title, note, *rest in _charts(record)),
        *(section(each.title, escape(each.note), _table(each)) for each in tables(record)),
        section("Where texts part", "", "".join(_text(*each) for each in texts(record))),
    ]
    return frame("CPU or GPU?", "CPU or GPU?", facts(record), "\n".join(body))


def _charts(record: Data) -> list[Any]:
    """Title, note, lines, and the names of both axes."""
    small, short = min(record["grid"]["batch"]), min(record["grid"]["context"])
    return [
        (
            "Latency against context",
            f"Milliseconds a decode step, median, at batch {small}.",
            _lines(record, "batch", small, "context", lambda run: run["step_ms"]["median"]),
            *("context, tokens", "ms a step"),
        ),
        (
            "Throughput against batch",
            f"Tokens a second, all sequences together, at context {short}.",
            _lines(record, "context", short, "batch", lambda run: run["tokens_per_s"]),
            *("batch", "tokens/s"),
        ),
        (
            "Agreement by position",
            "KL divergence from the reference at each position of the texts, their mean, in nats.",
            _by_position(record),
            *("position", "KL, nats"),
        ),
        (
            "Cost",
            f"Dollars for a million tokens at the given prices, at context {short}.",
            _lines(
                record, "context", short, "batch", lambda run: run["dollars_per_million_tokens"]
            ),
            *("batch", "$ a million tokens"),
        ),
    ]


def _lines(record: Data, fixed: str, value: int, across: str, figure: Any) -> list[Line]:
    """A line for each configuration: `figure` of its runs by `across`, where `fixed` is `value`."""
    runs = [run for run in record["runs"] if run["status"] == "ok" and run[fixed] == value]
    return [
        Line(
            name,
            sorted(
                (run[across], figure(run))
                for run in runs
                if name_of(run) == name and figure(run) is not None
            ),
        )
        for name in map(name_of, record["answers"])
    ]


def _by_position(record: Data) -> list[Line]:
    """Without what equals the reference: a logarithm has no place for it."""
    return [
        Line(
            name_of(each),
            [
                (place, kl)
                for place, kl in enumerate((each["agreement"] or NONE)["by_position"]["kl"], 1)
                if kl > 0
            ],
            marked=False,
        )
        for each in record["answers"]
    ]


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


def _text(name: str, text: Data) -> str:
    tie = "a near-tie" if text["near_tie"] else "no near-tie"
    before = escape(text["before"])
    sides = "".join(
        f"<div><h3>{side}</h3><pre>{before}<mark>{escape(text[side])}</mark></pre></div>"
        for side in ("reference", "candidate")
    )
    return (
        f'<p class="note">{escape(name)}: at token {text["parts_at"] + 1}, {tie}, margin '
        f'{text["margin"]:.2g}</p><div class="sides">{sides}</div>'
    )
