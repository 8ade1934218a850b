"""The record of a comparison, which becomes compare.json.

docs/compare-schema.md explains every field. Knows no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gpt2onnx.compare.record.answers import Answers
from gpt2onnx.compare.record.asked import SCHEMA_VERSION, Asked
from gpt2onnx.compare.record.costs import Crossover, Prices
from gpt2onnx.compare.record.grid import Cell, Configuration
from gpt2onnx.compare.record.runs import Missing, Run
from gpt2onnx.compare.record.schema import Flat, from_json
from gpt2onnx.errors import Gpt2OnnxError, shown

Entry = TypeVar("Entry")


@dataclass(kw_only=True)
class Record:
    """`answers` are by configuration, `runs` by cell; `crossovers` follow from runs and prices."""

    complete: bool = False
    asked: Flat[Asked]
    answers: list[Answers] = field(default_factory=list)
    runs: list[Run | Missing] = field(default_factory=list)
    prices: Prices = field(default_factory=Prices)
    crossovers: list[Crossover] = field(default_factory=list)

    @property
    def measured(self) -> list[Run]:
        """The runs that went well."""
        return measured(self.runs)

    def take_answers(self, configuration: Configuration) -> Answers | None:
        """Those there are, out of the list: put back, they follow what is there in its order."""
        return _take(self.answers, [each.configuration for each in self.answers], configuration)

    def take_run(self, cell: Cell) -> Run | Missing | None:
        """As `take_answers`."""
        return _take(self.runs, [each.cell for each in self.runs], cell)

    def resume(self, before: Record) -> list[Configuration]:
        """Take over what went well in an earlier record, of what is asked for now.

        Gives the configurations that were measured and aren't asked for any more. Raises
        ParameterError for another comparison's record.
        """
        self.asked.require_same(before.asked)
        asked = self.asked.grid.configurations
        done = [each for each in before.answers if each.status == "ok"]
        self.answers = [each for each in done if each.configuration in asked]
        self.runs = [each for each in before.measured if each.cell.configuration in asked]
        return [each.configuration for each in done if each.configuration not in asked]


def read(data: dict[str, Any], name: object, error: type[Gpt2OnnxError]) -> Record:
    """A record of JSON. Raises `error` for another version's, and with the place that doesn't fit.

    `name` says where the JSON is from.
    """
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise error(
            f"{name}: expected a record of schema_version {SCHEMA_VERSION}, got {shown(version)}"
        )
    return from_json(Record, data, name, error)


def measured(runs: Sequence[Run | Missing]) -> list[Run]:
    """Those that went well."""
    return [run for run in runs if isinstance(run, Run)]


def _take(entries: list[Entry], keys: Sequence[object], wanted: object) -> Entry | None:
    return entries.pop(keys.index(wanted)) if wanted in keys else None
