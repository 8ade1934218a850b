"""compare.md: the report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpt2onnx.compare.record.answers import Parting
from gpt2onnx.compare.record.record import Record
from gpt2onnx.compare.report.findings import findings
from gpt2onnx.compare.report.tables import facts, tables, texts, title
from gpt2onnx.errors import printable

# What Markdown would act on: markup, an escape, a character by its name, the end of a link's text.
_MARKUP = re.compile(r"[`*~<|]|\\(?=[!-/:-@\[-`{-~])|&(?=#|\w+;)|\](?=[(\[:])|(?<!\w)_|_(?!\w)")


def markdown(record: Record) -> str:
    """compare.md."""
    parts = [
        f"# {title(record)}",
        "\n".join(f"- {name}: {_plain(value)}" for name, value in facts(record)),
    ]
    parts.append("\n".join(f"- {_plain(line)}" for line in findings(record)))
    for table in tables(record):
        parts += [f"## {table.title}", table.note, _table(table.rows)]
    if parted := texts(record):
        parts += ["## Where texts part", *(_text(*each) for each in parted)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ("| " + " | ".join(map(_plain, row)) + " |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def _text(name: str, text: Parting) -> str:
    tie = "a near-tie" if text.near_tie else "no near-tie"
    about = f"at token {text.parts_at + 1}, {tie} (margin {text.margin:.2g})"
    sides = {"before": text.before, "reference": text.reference, "candidate": text.candidate}
    lines = (f"- {side}: {_plain(repr(shown))}" for side, shown in sides.items())
    return "\n".join([f"**{_plain(name)}**: {about}", *lines])


def _plain(text: str) -> str:
    """A text that somebody else chose, to be shown as it is."""
    return _MARKUP.sub(r"\\\g<0>", printable(text))
