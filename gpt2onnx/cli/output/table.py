"""Rows of text in aligned columns."""

from __future__ import annotations

from collections.abc import Sequence

from gpt2onnx.errors import printable


def table(rows: Sequence[Sequence[str]]) -> str:
    """One line a row, its cells under those of the row above.

    Names that somebody else chose stand in cells: a terminal gets nothing but their text.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    )
