"""The constraints that a text may be held to, and what they don't go with.

Knows names and values; what a constraint allows, only whoever knows a tokenizer can say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpt2onnx import errors
from gpt2onnx.errors import ParameterError

if TYPE_CHECKING:
    from gpt2onnx.samplers.params import GenerationParams

CONSTRAINTS: Final = ("regex", "json_schema", "grammar", "choices")

# What a constraint doesn't go with, and why.
_EXCLUDE: Final = {
    "num_beams": "beams keep no constraint",
    "stop_strings": "they would cut the text short of the constraint, which ends it by itself",
    "min_new_tokens": "the constraint alone says where the text may end",
    "min_length": "the constraint alone says where the text may end",
    "forced_bos_token_id": "the constraint alone says what comes first",
    "forced_eos_token_id": "the constraint alone says where the text may end",
}
_OFF: Final = {"min_new_tokens": 0, "min_length": 0}


def constraint_of(params: GenerationParams) -> tuple[str, str | tuple[str, ...]] | None:
    """Name and value of the constraint that a call gives."""
    values = ((name, getattr(params, name)) for name in CONSTRAINTS)
    return next((each for each in values if each[1] is not None), None)


def check_constraint(params: GenerationParams) -> None:
    """Raises ParameterError for two constraints, and for what doesn't go with one."""
    if params.json_layout is not None and params.json_schema is None:
        raise ParameterError(
            f"json_layout={params.json_layout!r} has no effect without json_schema: leave it out"
        )
    constraint = constraint_of(params)
    if constraint is None:
        return
    for other in CONSTRAINTS:
        value = getattr(params, other)
        if value is not None and other != constraint[0]:
            raise _both(constraint, (other, value), "a text is held to one of them")
    for other, why in _EXCLUDE.items():
        value = getattr(params, other)
        if value not in (getattr(type(params), other), _OFF.get(other)):  # the first: its default
            raise _both(constraint, (other, value), why)


def shown(name: str, value: object) -> str:
    """A constraint as messages name it, long ones shortened."""
    return f"{name}={errors.shown(value)}"


def _both(one: tuple[str, object], other: tuple[str, object], why: str) -> ParameterError:
    return ParameterError(f"{shown(*one)}, {shown(*other)}: {why}; leave out one of them")
