"""Arguments that are True or False, or one of some names, and what is said of any other.

Needs no numpy, so that every part can ask here.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from typing import Any

from gpt2onnx.errors import ParameterError

_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring = _SHORTENED.maxother = 200


def flag(name: str, value: Any) -> bool:
    """True or False, numpy's too, and nothing that merely counts as one. Raises ParameterError."""
    if isinstance(value, bool) or _is_numpys(value):
        return bool(value)
    raise refusal(name, value, "True or False")


def one_of(name: str, value: Any, names: Collection[str]) -> str:
    """One of some names. Raises ParameterError."""
    if isinstance(value, str) and value in names:
        return value
    raise refusal(name, value, "one of " + ", ".join(names))


def refusal(name: str, value: object, expected: str) -> ParameterError:
    """The error for a value that isn't what was expected."""
    return ParameterError(f"{name}={shown(value)}: expected {expected}")


def shown(value: object) -> str:
    """A value as a message shows it: shortened, whatever it is."""
    try:
        return _SHORTENED.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"a {type(value).__name__} of thousands of digits"


def _is_numpys(value: object) -> bool:
    kind = type(value)
    return kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")
