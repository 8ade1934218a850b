"""Arguments that are True or False, and what is said of an argument that isn't what was expected.

Needs no numpy, so that every part can ask here.
"""

from __future__ import annotations

import reprlib
from typing import Any

from gpt2onnx.errors import ParameterError


def flag(name: str, value: Any) -> bool:
    """True or False, numpy's too, and nothing that merely counts as one. Raises ParameterError."""
    if isinstance(value, bool) or _is_numpys(value):
        return bool(value)
    raise refusal(name, value, "True or False")


def refusal(name: str, value: object, expected: str) -> ParameterError:
    """The error for a value that isn't what was expected."""
    return ParameterError(f"{name}={shown(value)}: expected {expected}")


def shown(value: object) -> str:
    """A value as a message shows it: shortened, whatever it is."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"a {type(value).__name__} of thousands of digits"


def _is_numpys(value: object) -> bool:
    kind = type(value)
    return kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")
