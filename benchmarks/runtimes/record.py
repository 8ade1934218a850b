"""What was measured, cell by cell, in a file: a later run of some rows keeps the others."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.runtimes.measure import Figures
from benchmarks.runtimes.page import Cells
from benchmarks.runtimes.rows import ROWS, Row


class Record:
    """Cells by row, in a JSON file that is written after each."""

    def __init__(self, file: Path) -> None:
        self.file = file
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self.rows: dict[str, dict[str, object]] = known

    def put(self, row: Row, graph: str, precision: str, cell: Figures | str) -> None:
        kept = self.rows.setdefault(row.name, {})
        kept[f"{graph} {precision}"] = cell if isinstance(cell, str) else asdict(cell)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.rows, indent=1), encoding="utf-8")

    def found(self) -> list[tuple[Row, Cells]]:
        """All rows that have cells, in the table's order."""
        return [(row, self._cells(row)) for row in ROWS if row.name in self.rows]

    def _cells(self, row: Row) -> Cells:
        kept = self.rows[row.name]
        cells = {cell: kept.get(" ".join(cell)) for cell in row.cells()}
        return {
            cell: found if isinstance(found, str) else Figures(**found)  # type: ignore[arg-type]
            for cell, found in cells.items()
            if found is not None
        }
