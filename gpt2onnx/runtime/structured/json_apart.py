"""Whether JSON schemas exclude each other, so that their oneOf can be an anyOf.

Knows schemas alone. What it can't tell, it takes for possible.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES = frozenset(["null", "boolean", "number", "string", "array", "object"])
_DEPTH = 8  # of properties in properties, and of references
_STEPS = 20_000  # pairs that are looked at in a document


class Apart:
    """Whether no value can meet both of two schemas, which stand in a document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._left = _STEPS

    def __call__(self, a: Any, b: Any, depth: int = _DEPTH) -> bool:
        return depth > 0 and any(
            self._by_keywords(x, y, depth)
            for x in self._parts(a, depth)
            for y in self._parts(b, depth)
        )

    def _by_keywords(self, a: Any, b: Any, depth: int) -> bool:
        """The same of schemas' own keywords."""
        self._left -= 1
        if a is False or b is False:
            return True
        if not isinstance(a, dict) or not isinstance(b, dict) or self._left <= 0:
            return False
        if self._in_all_branches(a, b, depth) or self._in_all_branches(b, a, depth):
            return True
        one, other = _values(a), _values(b)
        if one is not None and other is not None:
            return not one & other
        types = _types(a) & _types(b)
        return not types or (types == {"object"} and self._by_property(a, b, depth))

    def _in_all_branches(self, a: Mapping[str, Any], b: Any, depth: int) -> bool:
        """Whether one of a's anyOf or oneOf must hold, and none can beside b."""
        branches = [a[key] for key in ("anyOf", "oneOf") if isinstance(a.get(key), list)]
        return any(all(self(each, b, depth - 1) for each in several) for several in branches)

    def _by_property(self, a: Mapping[str, Any], b: Mapping[str, Any], depth: int) -> bool:
        """Whether objects that have a property that one of them requires can't meet both."""
        properties = [each.get("properties", {}) for each in (a, b)]
        required = [each.get("required", []) for each in (a, b)]
        if not all(isinstance(each, dict) for each in properties) or not all(
            isinstance(each, list) for each in required
        ):
            return False
        return any(
            self(properties[0].get(key, True), properties[1].get(key, True), depth - 1)
            for key in (*required[0], *required[1])
            if isinstance(key, str)
        )

    def _parts(self, schema: Any, depth: int) -> Iterator[Any]:
        """The schema, and those that hold wherever it does: what it refers to, allOf's."""
        yield schema
        if isinstance(schema, dict) and depth:
            if "$ref" in schema:
                yield from self._parts(self._referred(schema["$ref"]), depth - 1)
            if isinstance(schema.get("allOf"), list):
                for each in schema["allOf"]:
                    yield from self._parts(each, depth - 1)

    def _referred(self, reference: Any) -> Any:
        """The schema at a JSON pointer of the document; True, which tells nothing, for none."""
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return True
        found: Any = self._document
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
    whole = abs(number) < 10**30 and number % 1 == 0
    return int(number) if whole else str(number.normalize())


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
