"""The output folder of `gpt2onnx compare`: reads an earlier record, writes the reports."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gpt2onnx.cli.output.whole_file import WholeFile
from gpt2onnx.compare.record.costs import Prices
from gpt2onnx.compare.record.grid import Configuration
from gpt2onnx.compare.record.record import Record, read
from gpt2onnx.compare.record.schema import to_json
from gpt2onnx.compare.report.cost import priced
from gpt2onnx.compare.report.markdown import markdown
from gpt2onnx.compare.report.page import render
from gpt2onnx.errors import (
    Advised,
    Given,
    OutputExistsError,
    ParameterError,
    Plain,
    StorageError,
)
from gpt2onnx.files import path_errors, read_json

JSON = "compare.json"
ANOTHER = Advised("out", Plain("DIR"))


def earlier(folder: Path, resume: bool) -> Record | None:
    """The record to go on with. Raises OutputExistsError, ParameterError."""
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


def _read(file: Path) -> Record:
    try:
        return read(read_json(file, ParameterError), file, ParameterError)
    except ParameterError as error:
        raise ParameterError(
            Given("resume", True),
            f" can't go on with {error}; remove the file, or give another ",
            ANOTHER,
        ) from error


class ReportFolder:
    """Writes a record as data, as text and as a page, with what follows from it and the prices."""

    def __init__(self, folder: Path, prices: Prices) -> None:
        self._folder, self._prices = folder, prices

    def save(self, record: Record) -> None:
        content = json.dumps(to_json(self.priced(record)), ensure_ascii=False, indent=1)
        self._write(JSON, f"{content}\n")

    def show(self, record: Record) -> None:
        shown = self.priced(record)
        self._write("compare.md", markdown(shown))
        self._write("compare.html", render(shown))

    def resume(self, record: Record, before: Record) -> list[Configuration]:
        """Go on with an earlier record, and with its prices where none are given.

        Gives the configurations that it has and `record` leaves out. Raises ParameterError for
        another comparison's.
        """
        left_out = record.resume(before)
        ours, theirs = self._prices, before.prices
        self._prices = Prices(ours.cpu or theirs.cpu, ours.gpu or theirs.gpu)
        return left_out

    def priced(self, record: Record) -> Record:
        return priced(record, self._prices)

    def _write(self, name: str, content: str) -> None:
        with path_errors(self._folder, StorageError):
            self._folder.mkdir(parents=True, exist_ok=True)
        WholeFile("out", str(self._folder / name)).write(content)
