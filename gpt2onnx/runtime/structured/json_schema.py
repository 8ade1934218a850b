"""A JSON schema for llguidance: the same texts, or fewer, or an error that names the place.

llguidance holds numbers in doubles, refuses what restricts nothing, and begins an object that it
can't finish where a property pattern has no name left. Here a schema is walked once, from the
inside out, and each of its objects rewritten into one without these. A text that the rewritten
schema allows is one that the schema allows.

Knows schemas; knows no tokenizer and no model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final, TypeGuard

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.runtime.structured.json_apart import Apart
from gpt2onnx.runtime.structured.json_numbers import (
    LARGEST_FACTOR,
    bound,
    common_factor,
    exact,
    factor,
    inclusive,
)
from gpt2onnx.runtime.structured.json_patterns import FORMATS, MOMENTS, names

Schema = dict[str, Any]

# Where schemas stand in a schema; whatever else holds objects holds instances, or annotations.
_SCHEMAS: Final = (
    *("items", "additionalItems", "additionalProperties", "not", "if", "then", "else", "contains"),
    *("propertyNames", "unevaluatedItems", "unevaluatedProperties"),
)
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_COUNTS: Final = (
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
    *("minContains", "maxContains"),
)
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
# A text has no more characters or members than this, whatever it may have.
_LARGEST_COUNT: Final = 2**31 - 1
# What llguidance doesn't know, where it restricts nothing.
_WITHOUT_EFFECT: Final[dict[str, Callable[[Any], bool]]] = {
    "uniqueItems": lambda value: value is False,
    "not": lambda value: value is False,
    "propertyNames": lambda value: value in (True, {}),
    "unevaluatedItems": lambda value: value in (True, {}),
    "unevaluatedProperties": lambda value: value in (True, {}),
    "dependentRequired": lambda value: not value,
    "dependentSchemas": lambda value: not value,
    "dependencies": lambda value: not value,
    "$dynamicAnchor": lambda value: True,
    "$recursiveAnchor": lambda value: True,
}


def for_llguidance(text: str) -> str:
    """A schema's text, a JSON object, as another's.

    Raises ParameterError for what can't be met exactly, with its place in the schema.
    """
    try:
        schema = json.loads(text, parse_float=Decimal)
        walk = _Walk(schema)
        rewritten = walk.rewritten(schema, "#")
        walk.check_multiples()
        return json.dumps(rewritten, default=float)
    except RecursionError:
        raise _refusal("#", "a schema that nests less deeply, or refers to itself less") from None


class _Walk:
    """Rewrites the schemas of one document."""

    def __init__(self, document: Schema) -> None:
        self._apart = Apart(document)
        self._references = frozenset(_references(document))
        self._multiples: set[int | Decimal] = set()

    def rewritten(self, schema: Any, place: str) -> Any:
        """The schema at a place, a JSON pointer, and all that are in it."""
        if not isinstance(schema, dict):
            return schema
        schema = self._with_inner(schema, place)
        schema = {key: value for key, value in schema.items() if not _is_idle(schema, key)}
        schema = _with_exact_numbers(schema, place)
        if "multipleOf" in schema and _is_number(schema["multipleOf"]):
            self._multiples.add(Decimal(str(schema["multipleOf"])))
        schema = _with_counts(schema, place)
        schema = _with_format(schema)
        schema = _with_named_patterns(schema)
        _check_keys(schema, place)
        return self._with_one_of(schema)

    def check_multiples(self) -> None:
        """Raise ParameterError where several multipleOf together may be more than is possible."""
        if self._multiples and common_factor(self._multiples) > LARGEST_FACTOR:
            shown = ", ".join(map(str, sorted(self._multiples)))
            raise _refusal("#", f"multipleOf with fewer digits together, got {shown}")

    def _with_inner(self, schema: Schema, place: str) -> Schema:
        """The same schema with those rewritten that stand in it."""
        found = dict(schema)
        for key, value in schema.items():
            at = f"{place}/{key}"
            if isinstance(value, dict) and key in _MAPS:
                found[key] = {
                    name: self.rewritten(each, f"{at}/{name}") for name, each in value.items()
                }
            elif isinstance(value, list) and key in _LISTS:
                found[key] = [self.rewritten(each, f"{at}/{n}") for n, each in enumerate(value)]
            elif isinstance(value, dict) and (key in _SCHEMAS or self._is_referred_to(at)):
                found[key] = self.rewritten(value, at)
        return found

    def _is_referred_to(self, place: str) -> bool:
        return any(each.startswith(place) for each in self._references)

    def _with_one_of(self, schema: Schema) -> Schema:
        """oneOf as anyOf, where no text can be two of its branches."""
        branches = schema.get("oneOf")
        if not isinstance(branches, list):
            return schema
        for n, branch in enumerate(branches):
            if not all(self._apart(branch, other) for other in branches[n + 1 :]):
                return schema  # llguidance may see it, or says what it can't do
        return _moved(schema, "oneOf", {"anyOf": branches})


def _references(value: Any) -> Iterator[str]:
    """What a document refers to: schemas may stand anywhere in it, as OpenAPI's do."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _references(each)


def _is_idle(schema: Schema, key: str) -> bool:
    """Whether a keyword that llguidance doesn't know restricts nothing here."""
    if key == "if":
        return "then" not in schema and "else" not in schema
    if key in ("then", "else"):
        return "if" not in schema
    if key in ("minContains", "maxContains"):
        return "contains" not in schema
    if key == "uniqueItems" and schema.get("maxItems") in (0, 1):
        return True
    return key in _WITHOUT_EFFECT and _WITHOUT_EFFECT[key](schema[key])


def _with_exact_numbers(schema: Schema, place: str) -> Schema:
    """Numbers that llguidance reads as what they are, or bounds within those that were given."""
    found = dict(schema)
    for key in ("const", "enum"):
        wrong = next(_inexact(schema.get(key)), None)
        if wrong is not None:
            raise _refusal(f"{place}/{key}", f"numbers that a double holds, got {wrong}")
    for key in _BOUNDS:
        if _is_number(value := schema.get(key)):
            _set_bound(found, key, value, place)
    if _is_number(multiple := schema.get("multipleOf")):
        if (known := factor(multiple)) is None:
            expected = "a number above 0, with digits that make at most 86400"
            raise _refusal(f"{place}/multipleOf", f"{expected}, got {multiple}")
        found["multipleOf"] = known
    return found


def _set_bound(schema: Schema, key: str, value: int | Decimal, place: str) -> None:
    """Put a bound into a schema, as one that llguidance keeps."""
    integer, lower = schema.get("type") == "integer", key.lower().endswith("minimum")
    if key.startswith("exclusive") and (moved := inclusive(value, lower, integer)) is not None:
        del schema[key]
        key, value = key[len("exclusive") :].lower(), moved
    limit = bound(value, lower, integer)
    if limit is None:
        raise _refusal(f"{place}/{key}", f"a number within 9e18 of 0, got {value}")
    kept = schema.get(key)
    if not _is_number(kept) or ((limit > kept) if lower else (limit < kept)):
        schema[key] = limit


def _is_number(value: Any) -> TypeGuard[int | Decimal]:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _inexact(value: Any) -> Iterator[int | Decimal]:
    """The numbers of an instance that llguidance would write as others."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _inexact(each)
    elif _is_number(value) and not exact(value):
        yield value


def _with_counts(schema: Schema, place: str) -> Schema:
    """Counts as integers, 2.0 as well, and without those that no text can exceed."""
    found = dict(schema)
    for key in _COUNTS:
        value = schema.get(key)
        if isinstance(value, Decimal) and 0 <= value < _LARGEST_COUNT and value % 1 == 0:
            value = found[key] = int(value)
        if _is_number(value) and value >= _LARGEST_COUNT:
            if key.startswith("min"):
                raise _refusal(f"{place}/{key}", f"a count that a text can have, got {value}")
            del found[key]
    return found


def _with_format(schema: Schema) -> Schema:
    """Dates and times as patterns of real ones; unknown formats, which restrict nothing, left out.

    https://json-schema.org/draft/2020-12/json-schema-validation#section-7.2.1
    """
    known = schema.get("format")
    if not isinstance(known, str) or known in FORMATS:
        return schema
    if known in MOMENTS:
        return _moved(schema, "format", {"pattern": MOMENTS[known]})
    return {key: value for key, value in schema.items() if key != "format"}


def _with_named_patterns(schema: Schema) -> Schema:
    """Patterns that match few names as properties of these names.

    Only such a pattern can have no name left beside the properties that are named.
    """
    patterns = schema.get("patternProperties")
    if not isinstance(patterns, dict):
        return schema
    given = schema.get("properties")
    properties = dict(given) if isinstance(given, dict) else {}
    others = {}
    for pattern, value in patterns.items():
        few = names(pattern)
        if few is None:
            others[pattern] = value
        for name in few or ():
            properties[name] = {"allOf": [properties[name], value]} if name in properties else value
    named: Schema = {"properties": properties, "patternProperties": others}
    found: Schema = {} if "properties" in schema else {"properties": properties}
    found |= {key: named.get(key, value) for key, value in schema.items()}
    return {key: value for key, value in found.items() if value or key not in named}


def _check_keys(schema: Schema, place: str) -> None:
    """Raise ParameterError where keys that no property names would have to be counted.

    llguidance lets the same one come twice, which counts once.
    """
    required = schema.get("required")
    named = len(set(required)) if isinstance(required, list) else 0
    is_open = schema.get("additionalProperties") is not False or "patternProperties" in schema
    least = schema.get("minProperties", 0)
    if isinstance(least, int) and is_open and least > named + 1:
        expected = f"at most one more than the required ones, {named + 1}"
        raise _refusal(f"{place}/minProperties", f"{expected}, got {least}")


def _moved(schema: Schema, key: str, other: Schema) -> Schema:
    """The same schema with another in the place of a key: beside the rest, or else in allOf."""
    if schema.keys() & other.keys():
        rest = {each: value for each, value in schema.items() if each != key}
        return {**rest, "allOf": [*rest.get("allOf", ()), other]}
    found: Schema = {}
    for each, value in schema.items():
        found |= other if each == key else {each: value}
    return found


def _refusal(place: str, expected: str) -> ParameterError:
    shown = place if len(place) <= 200 else f"{place[:200]}…"
    return ParameterError(Given("json_schema"), f", at {shown}: expected {expected}")
