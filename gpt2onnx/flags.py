"""Checks of arguments that are True or False, or one of several names.

Needs no numpy, so that every part can ask here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from gpt2onnx.errors import Given, ParameterError


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


def nearest(name: str, names: Collection[str]) -> str:
    """What to do about a name that isn't among those there are: the nearest, or all of them."""
    import difflib  # takes longer to import than most of this package

    closest = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {closest[0]}" if closest else f"expected one of {', '.join(names)}"


def refusal(name: str, value: object, *expected: str | Given) -> ParameterError:
    """The error for a value that isn't what was expected."""
    return ParameterError(Given(name, value), ": expected ", *expected)


def _is_numpys(value: object) -> bool:
    kind = type(value)
    return kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")
