"""Dataclasses as JSON and back, by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from gpt2onnx.compare.record.schema import Absent, Flat, from_json, to_json
from gpt2onnx.errors import ParameterError


@dataclass(frozen=True)
class Place:
    row: int
    column: int


@dataclass(frozen=True)
class Found:
    place: Flat[Place]
    share: float
    names: tuple[str, ...]
    counts: dict[Literal["a", "b"], int]
    note: Absent[str] = None


@dataclass(frozen=True)
class Lost:
    share: None
    why: str


@dataclass(frozen=True)
class Both:
    entries: list[Lost | Found]


MADE = Both([Found(Place(1, 2), 1.0, ("x",), {"a": 3}, "n"), Lost(None, "y")])
JSON: dict[str, Any] = {
    "entries": [
        {"row": 1, "column": 2, "share": 1.0, "names": ["x"], "counts": {"a": 3}, "note": "n"},
        {"share": None, "why": "y"},
    ]
}


def test_there_and_back() -> None:
    assert to_json(MADE) == JSON
    assert from_json(Both, JSON, "a file", ParameterError) == MADE
    without = Found(Place(1, 2), 1.0, (), {})
    assert "note" not in to_json(without)
    assert from_json(Found, to_json(without), "a file", ParameterError) == without
    whole = {**to_json(without), "share": 1}
    assert isinstance(from_json(Found, whole, "a file", ParameterError).share, float)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"row": True}, "entries[0].row: expected a whole number, got True"),
        ({"row": 1.0}, "entries[0].row: expected a whole number, got 1.0"),
        (
            {"share": float("inf")},
            "entries[0].share: expected a finite number, got inf",
        ),
        ({"names": "x"}, "entries[0].names: expected a list, got 'x'"),
        ({"names": [1]}, "entries[0].names[0]: expected a text, got 1"),
        ({"counts": {"c": 1}}, "entries[0].counts: expected 'a' or 'b', got 'c'"),
        ({"counts": {"a": None}}, "entries[0].counts.a: expected a whole number, got None"),
        ({"share": None}, "entries[0].why: missing"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], told: str) -> None:
    data = {"entries": [{**JSON["entries"][0], **change}]}
    with pytest.raises(ParameterError) as raised:
        from_json(Both, data, "a file", ParameterError)
    assert str(raised.value) == f"a file: {told}"


def test_something_else_altogether() -> None:
    with pytest.raises(ParameterError, match=r"a file: the whole: expected an object, got \[\]"):
        from_json(Both, [], "a file", ParameterError)
