"""Checks of single values: what each parameter may be.

A check `(name, value) -> value` returns the value in the one form that it is kept in, or says what
was expected. Knows nothing of what parameters mean together.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import Any

import numpy as np

from gpt2onnx.errors import Advised, Given, ParameterError
from gpt2onnx.flags import flag as flag
from gpt2onnx.flags import refusal as refusal

Check = Callable[[str, Any], Any]

# No vocabulary is larger, and an id beyond int64 wouldn't fit an array.
_LARGEST_TOKEN = 2**31 - 1
# numpy's integers end here. No count of anything comes near it.
LARGEST_INTEGER = 2**63 - 1

# No GPT-2 has more positions, and each phrase that must come takes one.
MOST_PHRASES = 2**17

_SURROGATE = re.compile("[\ud800-\udfff]")


def integer(minimum: int, expected: str) -> Check:
    """An int, or numpy's, of at least `minimum`. A bool is no int."""
    return integer_where(lambda value: value >= minimum, expected)


def seed(name: str, value: Any) -> int:
    """An int from 0, or numpy's; a hash of 64 bytes is one."""
    if not _is_integer(value) or not 0 <= value < 2**512:
        raise refusal(name, value, "an integer of at least 0, and of at most 512 bits")
    return int(value)


def integer_where(holds: Callable[[int], bool], expected: str) -> Check:
    """An int, or numpy's, for which `holds` is true, and no larger than an int64 can be.

    A bool is no int.
    """

    def check(name: str, value: Any) -> int:
        if not _is_integer(value) or not holds(int(value)):
            raise refusal(name, value, expected)
        if value > LARGEST_INTEGER:
            raise refusal(name, value, f"{expected}, and at most 2**63 - 1")
        return int(value)

    return check


def number(holds: Callable[[float], bool], *expected: str | Given) -> Check:
    """A finite int or float, or numpy's, for which `holds` is true. A bool is no number."""

    def check(name: str, value: Any) -> float:
        if not _is_finite(value) or not holds(float(value)):
            raise refusal(name, value, *expected)
        return float(value)

    return check


def choice(*names: str) -> Check:
    """One of some names."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise refusal(name, value, "one of " + ", ".join(map(repr, names)))
        return value

    return check


def order(known_names: Callable[[], Collection[str]]) -> Check:
    """A list or tuple of some of the names, each at most once -> a tuple."""

    def check(name: str, value: Any) -> tuple[str, ...]:
        names = known_names()
        given = value if isinstance(value, list | tuple) else ()
        known = [member for member in given if isinstance(member, str) and member in names]
        if not given or len(known) < len(given) or len(set(known)) < len(given):
            raise refusal(
                name, value, "a list of warpers, each once, of " + ", ".join(map(repr, names))
            )
        return tuple(known)

    return check


def function(answer: str) -> Check:
    """Something to call, with a sequence's index and its tokens."""

    def check(name: str, value: Any) -> Any:
        if not callable(value):
            raise refusal(name, value, f"a function (sequence_index, history) -> {answer}")
        return value

    return check


def token(name: str, value: Any) -> int:
    """A token id."""
    if not _is_token(value):
        raise refusal(name, value, "a token id: an integer from 0")
    return int(value)


def tokens(name: str, value: Any) -> tuple[int, ...] | None:
    """A token id or a list of them -> a tuple; an empty list, which asks for nothing, -> None."""
    members = (value,) if _is_integer(value) else _members(value)
    if members is None or not all(map(_is_token, members)):
        raise refusal(name, value, "token ids: integers from 0")
    return tuple(map(int, members)) or None


def token_sequences(name: str, value: Any) -> tuple[tuple[int, ...], ...] | None:
    """A list of non-empty lists of token ids -> a tuple of tuples; an empty list -> None."""
    sequences = _token_sequences(value)
    if sequences is None:
        raise refusal(
            name,
            value,
            "a list of words, each a non-empty list of token ids, such as [[5], [7, 9]]",
        )
    return sequences or None


def early_stopping(name: str, value: Any) -> bool | str:
    """True, False or "never"."""
    if isinstance(value, str) and value == "never":
        return value
    if not isinstance(value, bool | np.bool_):
        raise refusal(name, value, "True, False or 'never'")
    return bool(value)


def phrases(name: str, value: Any) -> tuple[tuple[tuple[int, ...], ...], ...] | None:
    """A list of phrases, or of lists of alternative ones -> of each its alternatives, or None."""
    members = _members(value)
    if members is not None and len(members) > MOST_PHRASES:
        raise ParameterError(
            Given(name),
            f" holds {len(members):,} phrases: expected at most {MOST_PHRASES:,}, as many as a "
            "text may have tokens",
        )
    alternatives = [_token_sequences(m) or _token_sequences([m]) for m in members or ()]
    if members is None or not all(alternatives):
        raise refusal(
            name,
            value,
            "a list of phrases, each a non-empty list of token ids or a list of several such lists "
            "to choose from, such as [[5, 6], [[7, 9], [8]]]",
        )
    return tuple(each for each in alternatives if each) or None


def biases(name: str, value: Any) -> dict[int, float] | None:
    """A mapping from token ids to finite numbers -> a dict of its own; an empty one -> None."""
    if not isinstance(value, Mapping) or not all(
        _is_token(key) and _is_finite(bias) for key, bias in value.items()
    ):
        raise refusal(
            name,
            value,
            "token ids with finite numbers, such as {50256: -5.0}; to forbid, use ",
            Advised("suppress_tokens"),
        )
    return {int(key): float(bias) for key, bias in value.items()} or None


def strings(name: str, value: Any) -> tuple[str, ...] | None:
    """A non-empty string or a list of them -> a tuple; an empty list -> None."""
    members = (value,) if isinstance(value, str) else _members(value)
    if members is None or not all(isinstance(member, str) and member for member in members):
        raise refusal(name, value, "a non-empty string, or a list of them")
    return tuple(members) or None


def text(name: str, value: Any) -> str:
    """A non-empty string that UTF-8 can hold; a byte order mark is no part of it."""
    content = value.removeprefix("\ufeff") if isinstance(value, str) else value
    if not _is_text(content):
        raise refusal(name, value, "a non-empty string of Unicode")
    return str(content)


def texts(name: str, value: Any) -> tuple[str, ...]:
    """A non-empty list of non-empty strings that UTF-8 can hold -> a tuple."""
    members = _members(value)
    if not members or not all(map(_is_text, members)):
        raise refusal(name, value, "a list of at least one string of Unicode, none of them empty")
    return tuple(members)


def json_object(name: str, value: Any) -> str:
    """A JSON object, as its text or as a mapping -> its text, with the numbers that it has."""
    try:
        if isinstance(value, Mapping):
            _check_keys(value)
            return json.dumps(dict(value), allow_nan=False)
        written = value.removeprefix("\ufeff") if isinstance(value, str) else "null"
        if isinstance(json.loads(written, parse_constant=_no_constant), dict):
            return written
    except (TypeError, ValueError, RecursionError) as error:
        given = value if isinstance(value, str) else type(value)  # what is in it has no JSON
        raise refusal(name, given, f"a JSON object: {error}") from error
    raise refusal(name, value, "a JSON object, as a dict or as its text")


def _check_keys(value: Any) -> None:
    """Raise TypeError for a key that is no string: json.dumps would make one of it."""
    inner = list(value.values()) if isinstance(value, Mapping) else value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"keys must be strings, not {key!r:.100}")
    if isinstance(inner, list | tuple):
        for each in inner:
            _check_keys(each)


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON's")


def texts_or_tokens(name: str, value: Any) -> tuple[str | int, ...]:
    """Non-empty strings and token ids, one or a list of them -> a tuple, which may be empty."""
    members = (value,) if isinstance(value, str) or _is_integer(value) else _members(value)
    if members is None or not all(_is_token(m) or (isinstance(m, str) and m) for m in members):
        raise refusal(name, value, "non-empty strings or token ids")
    return tuple(member if isinstance(member, str) else int(member) for member in members)


def _token_sequences(value: object) -> tuple[tuple[int, ...], ...] | None:
    """Lists of token ids, none of them empty; None where it is something else."""
    members = _members(value)
    sequences = [_members(member) for member in members or ()]
    if members is None or not all(s and all(map(_is_token, s)) for s in sequences):
        return None
    return tuple(tuple(map(int, s)) for s in sequences if s)


def _members(value: object) -> Sequence[Any] | None:
    """What a list, tuple, set or array holds; None where it is something else."""
    if isinstance(value, np.ndarray):
        return list(value) if value.ndim else None
    if isinstance(value, Sequence | Set) and not isinstance(value, str | bytes):
        return list(value)
    return None


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    """Whether this is a number, and a float can hold it."""
    if not _is_integer(value) and not isinstance(value, float | np.floating):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def _is_text(value: object) -> bool:
    """Whether this is a non-empty string without lone halves of surrogate pairs."""
    return isinstance(value, str) and bool(value) and not _SURROGATE.search(value)


def _is_token(value: Any) -> bool:
    return _is_integer(value) and 0 <= value <= _LARGEST_TOKEN
