"""The fields of a request's object: each is taken and checked once, and what is left is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gpt2onnx.errors import RequestError, shown

# Of OpenAI's clients, and without effect here: they say what a provider may do with a request.
WITHOUT_EFFECT = (
    *("user", "metadata", "store", "service_tier", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_retention"),
)


class Fields:
    """An object's fields. null is as good as not given."""

    def __init__(self, given: Mapping[str, Any], refused: Mapping[str, str] = {}) -> None:
        """`refused` are fields that are known and not served, and why. Raises RequestError."""
        self._left = {name: value for name, value in given.items() if value is not None}
        for name, why in refused.items():
            if name in self._left:
                raise refusal(name, f"isn't served: {why}", "unsupported")
        for name in WITHOUT_EFFECT:
            self._left.pop(name, None)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, default: Any = None) -> Any:
        """A field's value, whatever it is."""
        return self._left.pop(name, default)

    def flag(self, name: str) -> bool:
        """True or False, which it is unless given."""
        return bool(self._checked(name, False, lambda v: isinstance(v, bool), "true or false"))

    def integer(self, name: str, least: int, most: int) -> int | None:
        """An integer within bounds."""
        found: int | None = self._checked(
            name,
            None,
            lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most,
            f"an integer from {least} to {most}",
        )
        return found

    def text(self, name: str) -> str | None:
        """A string."""
        found: str | None = self._checked(name, None, lambda v: isinstance(v, str), "a string")
        return found

    def object(self, name: str) -> dict[str, Any]:
        """An object; {} where there is none."""
        found: dict[str, Any] = self._checked(name, {}, lambda v: isinstance(v, dict), "an object")
        return found

    def array(self, name: str) -> list[Any] | None:
        """An array."""
        found: list[Any] | None = self._checked(
            name, None, lambda v: isinstance(v, list), "an array"
        )
        return found

    def all_of(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """Whatever is there of these."""
        return {name: self._left.pop(name) for name in names if name in self._left}

    def end(self) -> None:
        """Raises RequestError where anything is left."""
        if self._left:
            names = sorted(self._left)
            listed = ", ".join(shown(name) for name in names[:20])
            raise RequestError(
                f"unknown fields: {listed}; leave them out", param=names[0], code="unknown_field"
            )

    def _checked(self, name: str, default: Any, holds: Callable[[Any], bool], expected: str) -> Any:
        value = self._left.pop(name, default)
        if value is not default and not holds(value):
            raise refusal(name, f"is {shown(value)}: expected {expected}")
        return value


def refusal(name: str, why: str, code: str = "invalid_value") -> RequestError:
    """The error of a field."""
    return RequestError(f"{name} {why}", param=name, code=code)
