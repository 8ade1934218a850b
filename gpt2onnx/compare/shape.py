"""What a record that was read must hold to be gone on with; docs/compare-schema.md explains it all.

Here are prices, and of answers and runs that went well what is read again, not what is worked out
anew each time. Plain data; knows no file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from gpt2onnx.compare.findings import UNKNOWN
from gpt2onnx.compare.report import VERDICTS


class Kind(NamedTuple):
    """What a value may be, in words, and whether one is."""

    name: str
    holds: Callable[[Any], bool]


# A kind; a list's items; an object's fields by name, ANY for whichever there are; or what chooses
# one of these by the value.
Shape: TypeAlias = "Kind | list[Shape] | Mapping[str, Shape] | Callable[[Any], Shape]"
ANY = "*"


def problems(value: Any, shape: Shape, place: str = "") -> Iterator[str]:
    """Where a value isn't of a shape: the place, what was expected there and what was found."""
    if callable(shape):
        shape = shape(value)
    kind = _kind(shape)
    if not kind.holds(value):
        found = "nothing" if value is None else f"{value!r:.40}"
        yield f"{place or 'the record'}: expected {kind.name}, found {found}"
    elif isinstance(shape, list):
        for number, item in enumerate(value):
            yield from problems(item, shape[0], f"{place}[{number}]")
    elif isinstance(shape, Mapping):
        fields = dict.fromkeys(value, shape[ANY]) if ANY in shape else shape
        for name, inner in fields.items():
            yield from problems(value.get(name), inner, f"{place}.{name}".removeprefix("."))


def _kind(shape: Shape) -> Kind:
    """What a value must be before its parts are looked at."""
    if isinstance(shape, Kind):
        return shape
    return LIST if isinstance(shape, list) else OBJECT


def _is_number(value: Any) -> bool:
    """A finite one that a float can hold: Python reads others from JSON as well."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _or_null(kind: Kind) -> Kind:
    return Kind(f"{kind.name} or null", lambda value: value is None or kind.holds(value))


def _if_ok(shape: Mapping[str, Shape]) -> Callable[[Any], Shape]:
    """An entry: of one that didn't go well nothing is taken over."""
    went_well = {**ENTRY, **shape}
    return lambda entry: went_well if OBJECT.holds(entry) and entry.get("status") == "ok" else ENTRY


def _text(value: Any) -> Shape:
    """A prompt's text: of one that doesn't part from the reference's no more is told."""
    return PARTING if not OBJECT.holds(value) or value.get("parts_at", 0) is not None else {}


OBJECT = Kind("an object", lambda value: isinstance(value, dict))
LIST = Kind("a list", lambda value: isinstance(value, list))
TEXT = Kind("a text", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a number", _is_number)
ABOVE_0 = Kind("a number above 0", lambda value: _is_number(value) and value > 0)
VERDICT = Kind(f"one of {', '.join(VERDICTS)}", lambda value: value in list(VERDICTS))
REASONS = Kind(
    f"reasons of {', '.join(UNKNOWN)}",
    lambda value: OBJECT.holds(value) and value.keys() <= UNKNOWN.keys(),
)
PARTING: Shape = {
    **dict.fromkeys(("parts_at", "margin"), NUMBER),
    **dict.fromkeys(("before", "reference", "candidate"), TEXT),
    "near_tie": FLAG,
}
ENTRY: Mapping[str, Shape] = dict.fromkeys(("status", "provider", "precision"), TEXT)
ANSWERS: Mapping[str, Shape] = {
    "placement": {
        "provider": TEXT,
        "nodes": {ANY: {ANY: NUMBER}},
        "share": NUMBER,
        "copies": NUMBER,
        "captured": FLAG,
    },
    "agreement": {
        **dict.fromkeys(("positions", "max_logit_difference", "logit_difference_p999"), NUMBER),
        **dict.fromkeys(("kl_mean", "kl_p99", "top1_agreement"), NUMBER),
        **dict.fromkeys(("texts_parted", "near_ties"), NUMBER),
        "by_position": {"kl": [NUMBER], "top1_agreement": [NUMBER]},
        "texts": [_text],
        "first_parting": _or_null(NUMBER),
        "verdict": VERDICT,
    },
}
RUN: Mapping[str, Shape] = {
    **dict.fromkeys(("batch", "context", "tokens_per_s"), ABOVE_0),
    **dict.fromkeys(("load_s", "first_token_s"), NUMBER),
    "step_ms": {"median": ABOVE_0, "p95": NUMBER},
    "memory": {
        **dict.fromkeys(("resident_bytes", "anonymous_bytes"), _or_null(NUMBER)),
        "device_bytes": _or_null(NUMBER),
    },
    "energy": {
        **dict.fromkeys(("cpu_joules_per_token", "device_joules_per_token"), _or_null(NUMBER)),
        "reasons": REASONS,
    },
}
RECORD: Shape = {
    "prices": dict.fromkeys(("cpu", "gpu"), _or_null(ABOVE_0)),
    "answers": [_if_ok(ANSWERS)],
    "runs": [_if_ok(RUN)],
}
