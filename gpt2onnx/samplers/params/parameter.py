"""One parameter: its check, its help, and what it needs to have an effect.

All of it stands with the field of GenerationParams, as the field's metadata; whoever lists
parameters, checks them or explains them reads it there. Knows no parameter by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import Any

from gpt2onnx.errors import Given
from gpt2onnx.samplers.params import values
from gpt2onnx.samplers.params.values import Check


@dataclass(frozen=True)
class Warping:
    """A warper that a parameter turns on, and which parameters are its arguments.

    `arguments` maps the function's keywords to parameters; the function's own defaults hold for
    those that aren't given. `draws` says that it also takes the sequence's random generator.
    """

    function: Callable[..., Any]
    arguments: dict[str, str]
    draws: bool = False


@dataclass(frozen=True)
class Parameter:
    """What a field of GenerationParams is, besides its name, type and default."""

    check: Check
    help: str
    # How its value is written: a kind of `cli.parameters`. "" for what no text can say.
    kind: str
    # Values at which it is as good as not given.
    off: tuple[object, ...] = ()
    # It has no effect unless one of these is on.
    needs: tuple[str, ...] = ()
    # The title of a group of parameters that begins with this one.
    group: str | None = None
    warping: Warping | None = None


def warps(function: Callable[..., Any], *, draws: bool = False, **arguments: str) -> Warping:
    """The warper `function`, each of whose keywords has the value of a parameter."""
    return Warping(function, arguments, draws)


def parameter(
    check: Check,
    help: str,
    kind: str,
    *,
    default: object = None,
    off: object = (),
    needs: str | tuple[str, ...] = (),
    group: str | None = None,
    warping: Warping | None = None,
    hash: bool | None = None,
) -> Any:
    """The field of a parameter. `off` and `needs` may be one or a tuple of several."""
    told = Parameter(check, help, kind, _as_tuple(off), _as_tuple(needs), group, warping)
    return field(default=default, hash=hash, metadata={"parameter": told})


def integer(minimum: int, help: str, *, allowed: str = "", **more: Any) -> Any:
    """An integer from `minimum` up."""
    expected = allowed or f"an integer of at least {minimum}"
    return parameter(values.integer(minimum, expected), help, "integer", **more)


def number(
    holds: Callable[[float], bool],
    expected: str | tuple[str | Given, ...],
    help: str,
    **more: Any,
) -> Any:
    """A finite number for which `holds` is true."""
    return parameter(values.number(holds, *_as_tuple(expected)), help, "number", **more)


def flag(help: str, **more: Any) -> Any:
    """True or False, which it is unless given."""
    return parameter(values.flag, help, "flag", default=False, off=False, **more)


def tokens(help: str, **more: Any) -> Any:
    """A token id, or several."""
    return parameter(values.tokens, help, "tokens", **more)


@cache
def parameters(of: type) -> dict[str, Parameter]:
    """The parameters of GenerationParams by their names, in its order."""
    return {each.name: of_field(each) for each in fields(of)}


def of_field(each: Field[Any]) -> Parameter:
    """What a field's metadata says."""
    told: Parameter = each.metadata["parameter"]
    return told


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
