"""Dataclasses to JSON and back. Data that doesn't fit is refused, with its place.

A field becomes a key of its name. The fields of a `Flat` one stand in its owner's object; an
`Absent` one has no key where it is None. Keys that no field has are left out, since a later version
may have written them. Of several classes that a value may be, the first is taken whose constants
(a `Literal` of one value, or None) the JSON object has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from gpt2onnx.errors import Gpt2OnnxError, shown

T = TypeVar("T")
# Integers up to here are the same number for every reader of JSON.
MOST = 2**53
FLAT, ABSENT = "flat", "absent"
Flat: TypeAlias = Annotated[T, FLAT]
Absent: TypeAlias = Annotated[T | None, ABSENT]
SCALARS = {str: "a text", bool: "true or false", NoneType: "null"}


def to_json(value: Any) -> Any:
    """Dataclasses, mappings and sequences as what the json module writes."""
    if is_dataclass(value):
        return dict(_items(value))
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(item) for item in value]
    return value


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    kind: Any = type(value)
    for each in _typed_fields(kind):
        item = getattr(value, each.name)
        if FLAT in each.marks:
            yield from _items(item)
        elif item is not None or ABSENT not in each.marks:
            yield each.name, to_json(item)


def from_json(kind: type[T], data: Any, name: object, error: type[Gpt2OnnxError]) -> T:
    """The `kind` that `to_json` made `data` of. Raises `error`, which names the place in `name`."""
    try:
        made: T = _read(kind, data, "")
    except _MisfitError as misfit:
        raise error(f"{name}: {misfit}") from misfit
    return made


class _MisfitError(Exception):
    """Something else than was expected, and where."""

    def __init__(self, place: str, expected: str, *got: object) -> None:
        came = "".join(f", got {shown(each)}" for each in got)
        super().__init__(f"{place.removeprefix('.') or 'the whole'}: {expected}{came}")


class _Field(NamedTuple):
    """A dataclass's field: its type, and how it is marked."""

    name: str
    type: Any
    marks: Sequence[object] = ()


@cache
def _typed_fields(kind: Any) -> list[_Field]:
    types = get_type_hints(kind, include_extras=True)
    return [_typed_field(each.name, types[each.name]) for each in fields(kind)]


def _typed_field(name: str, kind: Any) -> _Field:
    if get_origin(kind) is not Annotated:
        return _Field(name, kind)
    own, *marks = get_args(kind)
    return _Field(name, own, marks)


def _read(kind: Any, data: Any, place: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _read(_member(arguments, data, place), data, place)
    if origin is Literal:
        return _one_of(arguments, data, place)
    if is_dataclass(kind):
        return _instance(kind, _object(data, place), place)
    if origin in (list, tuple):
        return origin(_items_of(arguments[0], data, place))
    if origin is dict:
        read = _object(data, place).items()
        return {
            _read(arguments[0], name, place): _read(arguments[1], item, f"{place}.{name}")
            for name, item in read
        }
    return _scalar(kind, data, place)


def _member(kinds: Sequence[Any], data: Any, place: str) -> Any:
    """The one of a union that data is of."""
    if NoneType in kinds and data is None:
        return NoneType
    classes = [kind for kind in kinds if kind is not NoneType]
    if len(classes) == 1:
        return classes[0]
    found = _object(data, place)
    constants = [dict(_constants(kind)) for kind in classes]
    for kind, wanted in zip(classes, constants, strict=True):
        if all(found.get(name) == value for name, value in wanted.items()):
            return kind
    expected = " or ".join(f"{key} {shown(value)}" for c in constants for key, value in c.items())
    raise _MisfitError(place, f"expected {expected}")


def _constants(kind: type) -> Iterator[tuple[str, Any]]:
    for each in _typed_fields(kind):
        if each.type is NoneType:
            yield each.name, None
        elif get_origin(each.type) is Literal and len(get_args(each.type)) == 1:
            yield each.name, get_args(each.type)[0]


def _one_of(values: Sequence[Any], data: Any, place: str) -> Any:
    if isinstance(data, list | dict) or data not in values:
        raise _MisfitError(place, f"expected {' or '.join(map(shown, values))}", data)
    return data


def _object(data: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise _MisfitError(place, "expected an object", data)
    return data


def _instance(kind: Any, data: Mapping[str, Any], place: str) -> Any:
    values = {each.name: _value(each, data, place) for each in _typed_fields(kind)}
    try:
        return kind(**values)
    except ValueError as error:  # of its own check
        raise _MisfitError(place, str(error)) from error


def _value(each: _Field, data: Mapping[str, Any], place: str) -> Any:
    name = each.name
    if FLAT in each.marks:
        return _read(each.type, data, place)
    if name not in data and ABSENT not in each.marks:
        raise _MisfitError(f"{place}.{name}", "missing")
    return _read(each.type, data.get(name), f"{place}.{name}")


def _items_of(kind: Any, data: Any, place: str) -> list[Any]:
    if not isinstance(data, list):
        raise _MisfitError(place, "expected a list", data)
    return [_read(kind, item, f"{place}[{number}]") for number, item in enumerate(data)]


def _scalar(kind: type, data: Any, place: str) -> Any:
    if kind in SCALARS:
        if not isinstance(data, kind):
            raise _MisfitError(place, f"expected {SCALARS[kind]}", data)
        return data
    if isinstance(data, bool) or not isinstance(data, int | float if kind is float else int):
        whole = "" if kind is float else "whole "
        raise _MisfitError(place, f"expected a {whole}number", data)
    if isinstance(data, float) and not math.isfinite(data):
        raise _MisfitError(place, "expected a finite number", data)
    if isinstance(data, int) and abs(data) > MOST:
        raise _MisfitError(place, f"expected at most {MOST:,}", data)
    return kind(data)
