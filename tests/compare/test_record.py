"""A record that is gone on with: damage anywhere is told, and what isn't damage is taken over."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx.cli.output.report_folder import ReportFolder
from gpt2onnx.compare.record import Record
from gpt2onnx.compare.report.cost import Prices
from gpt2onnx.errors import ParameterError

# One that was written on a real machine.
WRITTEN = Path(__file__).parents[2] / "docs" / "compare" / "compare.json"
VALUES = [None, "x", -1, 0, 1e999, float("nan"), 10**400, [], {}, [None], {"x": None}, True]


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """Short: few runs, few texts, few positions."""
    record: dict[str, Any] = json.loads(WRITTEN.read_text(encoding="utf-8"))
    for each in record["answers"]:
        if agreement := each["agreement"]:
            agreement["by_position"] = {"kl": [0.0, 1e-3], "top1_agreement": [1.0, 1.0]}
            agreement["texts"] = agreement["texts"][:3]
    record["runs"] = record["runs"][:20:4]
    return record


def resumed(before: dict[str, Any], out: Path) -> Record:
    gone = ("answers", "runs", "crossovers", "prices", "complete")
    record = Record({name: value for name, value in before.items() if name not in gone})
    folder = ReportFolder(out, Prices())
    folder.resume(record, before)
    folder.show(record)
    return record


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container with each key or index in it."""
    keys = range(len(value)) if isinstance(value, list) else value
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def test_what_is_written_is_taken_over(written: dict[str, Any], tmp_path: Path) -> None:
    record = resumed(written, tmp_path)
    went_well = [each for each in written["runs"] if each["status"] == "ok"]
    assert record.runs == went_well
    assert record.answers == written["answers"][:3]
    assert len(record.answers) < len(written["answers"])


def test_damage_anywhere_is_told_or_does_no_harm(written: dict[str, Any], tmp_path: Path) -> None:
    harmless: list[tuple[str, Any]] = []
    for name in ("prices", "answers", "runs"):
        damaged = {**written, name: deepcopy(written[name])}
        for container, key in [(damaged, name), *places(damaged[name])]:
            whole = container[key]
            for container[key] in VALUES:
                with contextlib.suppress(ParameterError):
                    resumed(damaged, tmp_path)
                    harmless.append((name, key))
            container[key] = whole
    assert ("runs", "step_ms") not in harmless
    assert ("runs", "break_even_price") in harmless  # it is worked out anew


@pytest.mark.parametrize(
    ("entry", "name"), [("answers", "status"), ("answers", "agreement"), ("runs", "step_ms")]
)
def test_what_is_damaged_is_named(
    entry: str, name: str, written: dict[str, Any], tmp_path: Path
) -> None:
    damaged = {**written, entry: deepcopy(written[entry])}
    del damaged[entry][0][name]
    told = re.escape(f"it is damaged (KeyError: '{name}'); remove the file, or give another out=")
    with pytest.raises(ParameterError, match=told):
        resumed(damaged, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_model_is_another_whatever_its_name(written: dict[str, Any]) -> None:
    record = Record({**written, "model": {"name": "/abs/m8", "identity": "1"}})
    record.resume({**written, "model": {"name": "m8", "identity": "1"}})
    for other in ({"name": "/abs/m8", "identity": "2"}, {}, None):
        with pytest.raises(ParameterError, match="its model is"):
            record.resume({**written, "model": other})
