"""A request's prompts: one or several, as texts or as token ids."""

from __future__ import annotations

from typing import Any, Final

from gpt2onnx.server.fields import Field, anything, refusal

_ID: Final = {"type": "integer", "minimum": 0}
_IDS: Final = {"type": "array", "items": _ID}


def prompts_field(help: str) -> Field:
    """A text, token ids, or a list of either."""
    return anything(
        "a text, token ids, or a list of them",
        help,
        anyOf=[
            {"type": "string"},
            {**_IDS, "minItems": 1},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            {"type": "array", "items": _IDS, "minItems": 1},
        ],
    )


def prompts_of(name: str, given: Any) -> list[Any]:
    """A field's prompts. Raises RequestError."""
    if isinstance(given, list) and given and isinstance(given[0], str | list):
        return given
    if isinstance(given, str) or (isinstance(given, list) and given):
        return [given]
    raise refusal(name, "is empty or no prompt: expected a text, token ids, or a list of them")
