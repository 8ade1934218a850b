"""What a report is written in: tables, and the words of figures, verdicts and cells."""

from __future__ import annotations

from typing import NamedTuple

from gpt2onnx.compare.record.answers import Verdict
from gpt2onnx.compare.record.grid import Cell

NOTHING = "-"
VERDICTS: dict[Verdict, str] = {
    "same": "same texts",
    "near-ties": "same but for near-ties",
    "differs": "DIFFERS",
}


class Table(NamedTuple):
    """A heading, what to know before reading, and rows under their head."""

    title: str
    note: str
    rows: list[list[str]]


def number(value: float | None, unit: float = 1) -> str:
    """Three figures of value / unit; a dash for what isn't known."""
    if value is None:
        return NOTHING
    value /= unit
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cell_words(cell: Cell) -> list[str]:
    return [str(cell.configuration), str(cell.batch), str(cell.context)]
