"""JSON schemas of answers, in few words."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

STRING: Final[Schema] = {"type": "string"}
INTEGER: Final[Schema] = {"type": "integer"}
NUMBER: Final[Schema] = {"type": "number"}


def record(**members: Schema) -> Schema:
    """An object with these members, and no others."""
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def with_optional(schema: Schema, **members: Schema) -> Schema:
    """A record that may have more members."""
    return {**schema, "properties": {**schema["properties"], **members}}


def array_of(member: Schema) -> Schema:
    return {"type": "array", "items": member}


def map_of(member: Schema) -> Schema:
    """An object with whatever names."""
    return {"type": "object", "additionalProperties": member}


def constant(value: str) -> Schema:
    return {"const": value}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


ERROR: Final = record(
    error=record(message=STRING, type=STRING, param=or_null(STRING), code=or_null(STRING))
)
USAGE: Final = record(prompt_tokens=INTEGER, completion_tokens=INTEGER, total_tokens=INTEGER)
FINISH_REASON: Final[Schema] = {"enum": ["stop", "length"]}
