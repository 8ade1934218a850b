"""The record of a comparison, which becomes compare.json: what was asked, and each run so far.

docs/compare-schema.md explains every field. Plain data; knows no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gpt2onnx
from gpt2onnx.compare.grid import Cell, Configuration
from gpt2onnx.errors import Advised, ParameterError, Plain

SCHEMA_VERSION = 1
# What must be the same for a record to be gone on with.
SAME = ("schema_version", "gpt2onnx", "model", "machine", "grid", "reference", "prompts")


@dataclass
class Record:
    """`head` says what was asked; `answers` are by configuration, `runs` by cell."""

    head: Mapping[str, Any]
    answers: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def take_answers(self, configuration: Configuration) -> dict[str, Any] | None:
        """Those there are, out of the list: put back, they follow what is there in its order."""
        return _take(self.answers, lambda each: _configuration(each) == configuration)

    def take_run(self, cell: Cell) -> dict[str, Any] | None:
        """As `take_answers`."""
        return _take(self.runs, lambda each: _cell(each) == cell)

    def as_dict(self) -> dict[str, Any]:
        return {**self.head, "answers": self.answers, "runs": self.runs}

    def resume(self, before: Mapping[str, Any]) -> None:
        """Take over what went well in an earlier record. Errors: ParameterError for another's."""
        for name in SAME:
            if _compared(name, before.get(name)) != _compared(name, self.head[name]):
                raise ParameterError(
                    f"the record to go on with is another's: its {name} is "
                    f"{_short(before.get(name))}, here {_short(self.head[name])}; ask for the "
                    "same, or give another ",
                    Advised("out", Plain("DIR")),
                )
        self.answers = [each for each in before["answers"] if each["status"] == "ok"]
        self.runs = [each for each in before["runs"] if each["status"] == "ok"]


def head(
    grid: Mapping[str, Any],
    model: Mapping[str, Any],
    machine: Mapping[str, Any],
    reference: Configuration,
    prompts: list[str],
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "gpt2onnx": gpt2onnx.__version__,
        "model": dict(model),
        "machine": dict(machine),
        "grid": dict(grid),
        "reference": reference._asdict(),
        "prompts": prompts,
    }


def _take(
    entries: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any] | None:
    place = next((n for n, entry in enumerate(entries) if wanted(entry)), None)
    return None if place is None else entries.pop(place)


def _configuration(entry: Mapping[str, Any]) -> Configuration:
    return Configuration(entry["provider"], entry["precision"])


def _cell(entry: Mapping[str, Any]) -> Cell:
    return Cell(_configuration(entry), entry["batch"], entry["context"])


def _compared(name: str, value: Any) -> Any:
    """A field as it must be the same: a model by its identity, for a folder has several paths."""
    return value.get("identity") if name == "model" and isinstance(value, Mapping) else value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"
