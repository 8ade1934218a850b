"""The folder that `gpt2onnx compare` writes: what is there already, and what is put there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2onnx.cli.output.whole_file import WholeFile
from gpt2onnx.compare.record import Record
from gpt2onnx.compare.report.cost import Prices, add_costs, crossovers
from gpt2onnx.compare.report.markdown import markdown
from gpt2onnx.compare.report.page import render
from gpt2onnx.errors import (
    Advised,
    Given,
    Gpt2OnnxError,
    OutputExistsError,
    ParameterError,
    Plain,
    StorageError,
)
from gpt2onnx.files import path_errors, read_json

JSON = "compare.json"
ANOTHER = Advised("out", Plain("DIR"))
# What Python raises where a part of a record is missing or is something else.
DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def earlier(folder: Path, resume: bool) -> dict[str, Any] | None:
    """The record to go on with. Errors: OutputExistsError, ParameterError."""
    out = Given("out", Plain(folder))
    with path_errors(folder, OutputExistsError, "give another ", ANOTHER):
        above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not above.is_dir():
            raise OutputExistsError(out, f": expected a folder, {_name(above, folder)}")
        if not os.access(above, os.W_OK | os.X_OK):
            raise StorageError(out, f": the folder {above} can't be written to")
        there = (folder / JSON).exists()
    if resume and not there:
        raise ParameterError(
            f"there is no {folder / JSON} to go on with: leave ", Given("resume"), " out"
        )
    if there and not resume:
        raise OutputExistsError(
            *(f"{folder / JSON} exists: give ", Advised("resume", True), " to go on with it, or "),
            *("another ", ANOTHER),
        )
    return _read(folder / JSON) if resume else None


def _name(file: Path, folder: Path) -> str:
    return f"{'this' if file == folder else file} is a file"


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json(file, ParameterError)
    except ParameterError as error:
        raise _damaged(str(error)) from error


def _damaged(why: str) -> ParameterError:
    return ParameterError(
        *(Given("resume", True), f" can't go on with {why}; remove the file, or give another "),
        ANOTHER,
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
            what = f"{self._folder / JSON}: it is damaged ({type(error).__name__}: {error})"
            raise _damaged(what) from error

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
        with path_errors(self._folder, StorageError):
            self._folder.mkdir(parents=True, exist_ok=True)
        WholeFile("out", str(self._folder / name)).write(content)
