"""Which JSON schemas no value can meet together: what makes a oneOf of them an anyOf.

Knows schemas alone. What it can't tell, it takes for possible.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES = frozenset(["null", "boolean", "number", "string", "array", "object"])
_DEPTH = 8  # of properties in properties, and of references


def apart(a: Any, b: Any, document: Mapping[str, Any], depth: int = _DEPTH) -> bool:
    """Whether no value can meet both schemas, which stand in a document."""
    if not depth:
        return False
    return any(
        _apart(x, y, document, depth)
        for x in _parts(a, document, depth)
        for y in _parts(b, document, depth)
    )


def _apart(a: Any, b: Any, document: Mapping[str, Any], depth: int) -> bool:
    """The same of schemas' own keywords."""
    if a is False or b is False:
        return True
    if not isinstance(a, dict) or not isinstance(b, dict):
        return False
    for one, other in ((a, b), (b, a)):
        for key in ("anyOf", "oneOf"):
            branches = one.get(key)
            if isinstance(branches, list) and all(
                apart(branch, other, document, depth - 1) for branch in branches
            ):
                return True
    values = _values(a), _values(b)
    if values[0] is not None and values[1] is not None:
        return not values[0] & values[1]
    types = _types(a) & _types(b)
    return not types or (types == {"object"} and _told_by_property(a, b, document, depth))


def _told_by_property(
    a: Mapping[str, Any], b: Mapping[str, Any], document: Mapping[str, Any], depth: int
) -> bool:
    """Whether objects that have a property that one of them requires can't meet both."""
    properties = [each.get("properties", {}) for each in (a, b)]
    required = [key for each in (a, b) for key in each.get("required", ())]
    if not all(isinstance(each, dict) for each in properties):
        return False
    return any(
        apart(properties[0].get(key, True), properties[1].get(key, True), document, depth - 1)
        for key in required
        if isinstance(key, str)
    )


def _parts(schema: Any, document: Mapping[str, Any], depth: int) -> Iterator[Any]:
    """The schema, and those that hold wherever it does: what it refers to, allOf's."""
    yield schema
    if isinstance(schema, dict) and depth:
        if "$ref" in schema:
            yield from _parts(_referred(schema["$ref"], document), document, depth - 1)
        if isinstance(schema.get("allOf"), list):
            for each in schema["allOf"]:
                yield from _parts(each, document, depth - 1)


def _referred(reference: Any, document: Mapping[str, Any]) -> Any:
    """The schema at a JSON pointer of the document; True, which tells nothing, where none is."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return True
    found: Any = document
    for step in reference[2:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or key not in found:
            return True
        found = found[key]
    return found


def _values(schema: Mapping[str, Any]) -> frozenset[str] | None:
    """The values that const and enum name, as texts that are equal where the values are."""
    if "const" in schema:
        return frozenset([_canonical(schema["const"])])
    listed = schema.get("enum")
    return frozenset(map(_canonical, listed)) if isinstance(listed, list) else None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(number: Any) -> int | str:
    """A Decimal so that equal ones are alike, and 1.0 is 1."""
    return int(number) if number == int(number) else str(number.normalize())


def _types(schema: Mapping[str, Any]) -> frozenset[str]:
    """The types that a value may have; an integer is a number."""
    given = schema.get("type", None)
    if "const" in schema or isinstance(schema.get("enum"), list):
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return frozenset(map(_type, values))
    if given is None:
        return _TYPES
    named = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    return frozenset("number" if name == "integer" else str(name) for name in named)


def _type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    kinds = ((str, "string"), (list, "array"), (dict, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "number")
