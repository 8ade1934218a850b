"""The folder that `gpt2onnx compare` writes: what is there already, and what is put there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2onnx.cli.whole_file import WholeFile
from gpt2onnx.compare.cost import Prices, add_costs, crossovers
from gpt2onnx.compare.markdown import markdown
from gpt2onnx.compare.page import render
from gpt2onnx.compare.record import Record
from gpt2onnx.errors import Gpt2OnnxError, OutputExistsError, ParameterError, StorageError

JSON = "compare.json"
# What Python raises where a part of a record is missing or is something else.
DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


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
        raise _damaged(file, str(error)) from error
    return found


def _damaged(file: Path, why: str) -> ParameterError:
    return ParameterError(
        f"resume=True: {file} can't be gone on with: {why}; remove the file, or give another "
        "out=DIR"
    )


class ReportFolder:
    """Writes a record as data, as text and as a page, with what follows from it and the prices."""

    def __init__(self, folder: Path, prices: Prices) -> None:
        self._folder, self._prices = folder, prices

    def save(self, record: Record) -> None:
        content = json.dumps(self.data(record), ensure_ascii=False, indent=1)
        self._write(JSON, f"{content}\n")

    def show(self, record: Record) -> None:
        for name, content in self._shown(record).items():
            self._write(name, content)

    def resume(self, record: Record, before: Mapping[str, Any]) -> None:
        """Go on with an earlier record, and with its prices where none are given.

        It must be one that can be shown. Errors: ParameterError.
        """
        try:
            record.resume(before)
            theirs, ours = before["prices"], self._prices
            self._prices = Prices(ours.cpu or theirs["cpu"], ours.gpu or theirs["gpu"])
            self._shown(record)
        except Gpt2OnnxError:
            raise
        except DAMAGE as error:
            why = f"it is damaged ({type(error).__name__}: {error})"
            raise _damaged(self._folder / JSON, why) from error

    def _shown(self, record: Record) -> dict[str, str]:
        data = self.data(record)
        return {"compare.md": markdown(data), "compare.html": render(data)}

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
