"""The folder that `gpt2onnx compare` writes: what is there already, and what is put there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpt2onnx.cli.whole_file import WholeFile
from gpt2onnx.compare.cost import Prices, add_costs, crossovers
from gpt2onnx.compare.markdown import markdown
from gpt2onnx.compare.page import render
from gpt2onnx.compare.record import Record
from gpt2onnx.errors import OutputExistsError, ParameterError, StorageError

JSON = "compare.json"


def earlier(folder: Path, resume: bool) -> dict[str, Any] | None:
    """The record to go on with. Errors: OutputExistsError, ParameterError."""
    if folder.exists() and not folder.is_dir():
        raise OutputExistsError(f"out={folder}: expected a folder, this is a file")
    if resume:
        return _read(folder / JSON)
    if (folder / JSON).exists():
        raise OutputExistsError(
            f"{folder / JSON} exists: give resume=True to go on with it, or another out=DIR"
        )
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"expected a JSON object, found {type(found).__name__}")
    except FileNotFoundError:
        raise ParameterError(f"there is no {file} to go on with: leave resume=True out") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ParameterError(
            f"resume=True: {file} can't be gone on with: {error}; remove the file, or give another "
            "out=DIR"
        ) from error
    return found


class ReportFolder:
    """Writes a record as data, as text and as a page, with what follows from it and the prices."""

    def __init__(self, folder: Path, prices: Prices) -> None:
        self._folder, self._prices = folder, prices

    def save(self, record: Record) -> None:
        content = json.dumps(self.data(record), ensure_ascii=False, indent=1)
        self._write(JSON, f"{content}\n")

    def show(self, record: Record) -> None:
        self._write("compare.md", markdown(self.data(record)))
        self._write("compare.html", render(self.data(record)))

    def data(self, record: Record) -> dict[str, Any]:
        add_costs(record.runs, self._prices)
        return {
            "complete": False,
            **record.as_dict(),
            "prices": {"cpu": self._prices.cpu, "gpu": self._prices.gpu},
            "crossovers": crossovers(record.runs),
        }

    def _write(self, name: str, content: str) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self._folder}: {error.strerror}") from error
        WholeFile("out", str(self._folder / name)).write(content)
