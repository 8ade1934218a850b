"""A record that is gone on with: damage anywhere is told, and what isn't damage is taken over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx.cli.output.report_folder import ReportFolder, earlier
from gpt2onnx.compare.record.asked import ModelName
from gpt2onnx.compare.record.costs import Prices
from gpt2onnx.compare.record.record import Record, read
from gpt2onnx.compare.record.schema import to_json
from gpt2onnx.compare.report.cost import priced
from gpt2onnx.errors import ParameterError
from tests.raising import raises

# One that was written on a real machine.
WRITTEN = Path(__file__).parents[3] / "docs" / "compare" / "compare.json"
VALUES = [None, "x", -1, 0, 1e999, float("nan"), 10**400, [], {}, [None], {"x": None}, True]


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """Short: few runs, few texts, few positions."""
    record: dict[str, Any] = json.loads(WRITTEN.read_text(encoding="utf-8"))
    record["prompts"] = record["prompts"][:1]
    record["answers"] = record["answers"][1:4]  # the first is the reference, whose texts are same
    for each in record["answers"]:
        if agreement := each["agreement"]:
            agreement["by_position"] = {"kl": [0.0, 1e-3], "top1_agreement": [1.0, 1.0]}
            agreement["texts"] = [f(agreement["texts"], key=len) for f in (min, max)]
            each["placement"]["nodes"] = {"cpu": {"Add": 1}}
    record["runs"] = [record["runs"][place] for place in (0, 7, -1)]
    return record


def a_read(data: dict[str, Any]) -> Record:
    return read(data, "compare.json", ParameterError)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container with each key or index in it."""
    keys = range(len(value)) if isinstance(value, list) else value
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def test_a_record_of_another_day_is_read_and_written_as_it_was() -> None:
    text = WRITTEN.read_text(encoding="utf-8")
    record = a_read(json.loads(text))
    for same in (record, priced(record, record.prices)):  # costs are worked out anew, to the bit
        assert json.dumps(to_json(same), ensure_ascii=False, indent=1) + "\n" == text


def test_what_is_written_is_taken_over(written: dict[str, Any], tmp_path: Path) -> None:
    before = a_read(written)
    record = Record(asked=before.asked)
    ReportFolder(tmp_path, Prices()).resume(record, before)
    assert record.runs == before.measured
    assert record.answers == before.answers[:2]
    assert len(record.answers) < len(before.answers)


def test_damage_anywhere_is_told_or_does_no_harm(written: dict[str, Any], tmp_path: Path) -> None:
    """What is read can be shown, and written for the next to read."""
    harmless: list[tuple[str, Any]] = []
    damaged = deepcopy(written)
    for container, key in list(places(damaged)):
        whole = container[key]
        for container[key] in VALUES:
            try:
                record = a_read(damaged)
            except ParameterError:
                continue
            ReportFolder(tmp_path, Prices()).show(record)
            assert a_read(to_json(record)) == record
            harmless.append(key)
        container[key] = whole
    assert {"step_ms", "schema_version", "grid", "status"}.isdisjoint(harmless)
    assert {"break_even_price", "margin", "copies", "name"} <= set(harmless)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("answers", 0, "status"), ..., "answers[0].status: missing"),
        (("answers", 0, "agreement"), None, "answers[0]: expected a placement and an agreement"),
        (("runs", 0, "step_ms"), ..., "runs[0].step_ms: missing"),
        (("runs", 0, "step_ms", "p95"), "x", "runs[0].step_ms.p95: expected a number, got 'x'"),
        (("runs", 0, "status"), "x", "runs[0]: expected status 'ok' or status 'unavailable'"),
        (("runs", 0, "tokens_per_s"), 0, "runs[0]: tokens_per_s is 0.0: expected a speed, above 0"),
        (
            ("runs", 0, "batch"),
            10**400,
            "runs[0].batch: expected at most 9,007,199,254",
        ),
        (("runs",), {}, "runs: expected a list, got {}"),
        (("machine", "gpu"), 1, "machine.gpu: expected a text, got 1"),
        (("grid", "batch"), [0], "grid: batch=0: expected at least 1"),
        (("prices", "cpu"), 0, "prices: cpu_price=0.0: expected dollars an hour"),
        (("schema_version",), 2, "expected a record of schema_version 1, got 2"),
    ],
)
def test_what_does_not_fit_is_named(
    place: tuple[Any, ...], value: Any, told: str, written: dict[str, Any], tmp_path: Path
) -> None:
    damaged = container = deepcopy(written)
    *above, last = place
    for key in above:
        container = container[key]
    if value is ...:
        del container[last]
    else:
        container[last] = value
    file = tmp_path / "compare.json"
    file.write_text(json.dumps(damaged), encoding="utf-8")
    with pytest.raises(ParameterError) as raised:
        earlier(tmp_path, resume=True)
    assert str(raised.value).startswith(f"resume=True can't go on with {file}: {told}")
    assert str(raised.value).endswith("; remove the file, or give another out=DIR")


def test_fields_of_a_later_version_are_passed_over(written: dict[str, Any]) -> None:
    later = deepcopy(written)
    for container in (later, later["grid"], later["runs"][0], later["answers"][0]["agreement"]):
        container["later"] = 1
    assert a_read(later) == a_read(written)


def test_another_model_is_another_whatever_its_name(written: dict[str, Any]) -> None:
    asked = a_read(written).asked
    record = Record(asked=replace(asked, model=ModelName("/abs/m8", "1")))
    record.resume(Record(asked=replace(asked, model=ModelName("m8", "1"))))
    with raises(ParameterError, name="model"):
        record.resume(Record(asked=replace(asked, model=ModelName("/abs/m8", "2"))))
