"""compare.md: a record to paste."""

from __future__ import annotations

from collections.abc import Sequence

from gpt2onnx.compare.findings import findings
from gpt2onnx.compare.report import Data, facts, tables, texts


def markdown(record: Data) -> str:
    """compare.md."""
    parts = ["# CPU or GPU?", "\n".join(f"- {name}: {value}" for name, value in facts(record))]
    parts.append("\n".join(f"- {line}" for line in findings(record)))
    for table in tables(record):
        parts += [f"## {table.title}", table.note, _table(table.rows)]
    if parted := texts(record):
        parts += ["## Where texts part", *(_text(*each) for each in parted)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows
    )
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def _text(name: str, text: Data) -> str:
    tie = "a near-tie" if text["near_tie"] else "no near-tie"
    lines = [f"**{name}**: at token {text['parts_at'] + 1}, {tie} (margin {text['margin']:.2g})"]
    lines += [f"- {side}: {text[side]!r}" for side in ("before", "reference", "candidate")]
    return "\n".join(lines)
