"""The fields of a request's object, as a table: what each may hold, once for checks and schema.

Knows no endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpt2onnx.errors import RequestError, shown

Check = Callable[[str, Any], Any]

# Of OpenAI's clients, and without effect here: they say what a provider may do with a request.
WITHOUT_EFFECT = (
    *("user", "metadata", "store", "service_tier", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_retention"),
)


@dataclass(frozen=True)
class Field:
    """What a field may hold, as a JSON schema; `check(name, value)` gives the value, or raises."""

    schema: Mapping[str, Any]
    check: Check = lambda name, value: value
    default: Any = None


@dataclass(frozen=True)
class Form:
    """The fields of an object. null is as good as not given, of fields that are known.

    `refused` are fields that are known and not served, and why; `ignored` are taken without effect.
    """

    fields: Mapping[str, Field]
    refused: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = WITHOUT_EFFECT
    required: tuple[str, ...] = ()

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What is given, checked, and defaults. Raises RequestError, for unknown fields too."""
        self._require_known(given)
        left = {name: value for name, value in given.items() if value is not None}
        for name, why in self.refused.items():
            if name in left:
                raise refusal(name, f"isn't served: {why}", "unsupported")
        for name in self.required:
            if name not in left:
                raise refusal(name, f"is missing: expected {self.fields[name].schema['title']}")
        defaults = {n: each.default for n, each in self.fields.items() if each.default is not None}
        return defaults | {
            name: self.fields[name].check(name, value)
            for name, value in left.items()
            if name in self.fields
        }

    def schema(self) -> dict[str, Any]:
        """The same as a JSON schema."""
        others: dict[str, Any] = {
            name: {"type": "null", "description": f"Not served: {why}."}
            for name, why in self.refused.items()
        }
        others |= {name: {"description": "Taken without effect."} for name in self.ignored}
        fields = {n: _schema(each, n in self.required) for n, each in self.fields.items()}
        return {
            "type": "object",
            "properties": fields | others,
            "required": list(self.required),
            "additionalProperties": False,
        }

    def _require_known(self, given: Mapping[str, Any]) -> None:
        unknown = sorted(given.keys() - {*self.fields, *self.ignored, *self.refused})
        if unknown:
            listed = ", ".join(shown(name) for name in unknown[:20])
            raise RequestError(
                f"unknown fields: {listed}; leave them out", param=unknown[0], code="unknown_field"
            )


def flag(help: str, default: bool = False) -> Field:
    """True or False."""
    return _typed("boolean", "true or false", lambda v: isinstance(v, bool), help, default)


def integer(least: int, most: int, help: str, default: int | None = None) -> Field:
    """An integer within bounds."""
    return _typed(
        "integer",
        f"an integer from {least} to {most}",
        lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most,
        help,
        default,
        minimum=least,
        maximum=most,
    )


def text(help: str) -> Field:
    """A string."""
    return _typed("string", "a string", lambda v: isinstance(v, str), help)


def one_of(names: tuple[str, ...], help: str, default: str | None = None) -> Field:
    """One of some strings."""
    expected = f"{', '.join(names[:-1])} or {names[-1]}"
    known = frozenset(names)
    return _typed(
        *("string", expected, lambda v: isinstance(v, str) and v in known, help, default),
        enum=list(names),
    )


def array(help: str, **schema: Any) -> Field:
    """An array, of whatever the schema's further keywords say; its users check its members."""
    return _typed("array", "an array", lambda v: isinstance(v, list), help, **schema)


def mapping(help: str) -> Field:
    """An object of whatever."""
    return _typed("object", "an object", lambda v: isinstance(v, dict), help)


def nested(form: Form, help: str) -> Field:
    """An object with fields of its own."""

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, dict):
            raise refusal(name, f"is {shown(value)}: expected an object")
        try:
            return form.read(value)
        except RequestError as error:
            raise RequestError(f"{name}: {error}", param=name, code=error.code) from None

    return Field({**form.schema(), "description": help}, check)


def anything(expected: str, help: str, **schema: Any) -> Field:
    """What its users check."""
    return Field({**schema, "title": expected, "description": help})


def refusal(name: str, why: str, code: str = "invalid_value") -> RequestError:
    """The error of a field."""
    return RequestError(f"{name} {why}", param=name, code=code)


def _typed(
    kind: str,
    expected: str,
    holds: Callable[[Any], bool],
    help: str,
    default: Any = None,
    **more: Any,
) -> Field:
    def check(name: str, value: Any) -> Any:
        if not holds(value):
            raise refusal(name, f"is {shown(value)}: expected {expected}")
        return value

    return Field({"type": kind, "title": expected, "description": help, **more}, check, default)


def _schema(each: Field, is_required: bool) -> dict[str, Any]:
    """A field's schema, with null where it may be left out, and its default."""
    inner = {key: value for key, value in each.schema.items() if key != "title"}
    help = {"description": inner.pop("description")} if "description" in inner else {}
    if each.default is not None:
        help["default"] = each.default
    if inner and not is_required:
        inner = {"anyOf": [inner, {"type": "null"}]}
    return inner | help
