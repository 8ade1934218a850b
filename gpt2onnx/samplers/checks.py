"""What each parameter may be, taken alone.

A check `(name, value) -> value` returns the value in the one form that it is kept in, or says what
was expected. Knows nothing of what parameters mean together.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final

import numpy as np

from gpt2onnx.errors import ParameterError

Check = Callable[[str, Any], Any]

# No vocabulary is larger, and an id beyond int64 wouldn't fit an array.
_LARGEST_TOKEN = 2**31 - 1


def refusal(name: str, value: object, expected: str) -> ParameterError:
    """The error for a value that isn't what was expected."""
    return ParameterError(f"{name}={reprlib.repr(value)}: expected {expected}")


def integer(minimum: int, expected: str) -> Check:
    """An int, or numpy's, of at least `minimum`. A bool is no int."""

    def check(name: str, value: Any) -> int:
        if not _is_integer(value) or value < minimum:
            raise refusal(name, value, expected)
        return int(value)

    return check


def number(holds: Callable[[float], bool], expected: str) -> Check:
    """A finite int or float, or numpy's, for which `holds` is true. A bool is no number."""

    def check(name: str, value: Any) -> float:
        if not _is_number(value) or not math.isfinite(value) or not holds(float(value)):
            raise refusal(name, value, expected)
        return float(value)

    return check


def choice(*names: str) -> Check:
    """One of some names."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise refusal(name, value, "one of " + ", ".join(map(repr, names)))
        return value

    return check


def flag(name: str, value: Any) -> bool:
    """True or False, nothing that merely counts as one."""
    if not isinstance(value, bool | np.bool_):
        raise refusal(name, value, "True or False")
    return bool(value)


def function(name: str, value: Any) -> Any:
    """Something to call."""
    if not callable(value):
        raise refusal(name, value, "a function (sequence_index, history) -> allowed token ids")
    return value


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
    members = _members(value)
    sequences = [_members(member) for member in members or ()]
    if members is None or not all(s and all(map(_is_token, s)) for s in sequences):
        raise refusal(
            name,
            value,
            "a list of words, each a non-empty list of token ids, such as [[5], [7, 9]]",
        )
    return tuple(tuple(map(int, s)) for s in sequences if s) or None


def biases(name: str, value: Any) -> dict[int, float] | None:
    """A mapping from token ids to finite numbers -> a dict of its own; an empty one -> None."""
    if not isinstance(value, Mapping) or not all(
        _is_token(key) and _is_number(bias) and math.isfinite(bias) for key, bias in value.items()
    ):
        raise refusal(
            name,
            value,
            "token ids with finite numbers, such as {50256: -5.0}; to forbid, use suppress_tokens",
        )
    return {int(key): float(bias) for key, bias in value.items()} or None


def strings(name: str, value: Any) -> tuple[str, ...] | None:
    """A non-empty string or a list of them -> a tuple; an empty list -> None."""
    members = (value,) if isinstance(value, str) else _members(value)
    if members is None or not all(isinstance(member, str) and member for member in members):
        raise refusal(name, value, "a non-empty string, or a list of them")
    return tuple(members) or None


def _members(value: object) -> Sequence[Any] | None:
    """What a list, tuple, set or array holds; None where it is something else."""
    if isinstance(value, np.ndarray):
        return list(value) if value.ndim else None
    if isinstance(value, Sequence | Set) and not isinstance(value, str | bytes):
        return list(value)
    return None


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or isinstance(value, float | np.floating)


def _is_token(value: Any) -> bool:
    return _is_integer(value) and 0 <= value <= _LARGEST_TOKEN


_GREEDY_ADVICE = "for greedy decoding set do_sample=False instead"
_MASS = number(lambda v: 0 <= v <= 1, "a number from 0 to 1")
_CUTOFF = number(lambda v: 0 <= v < 1, "a probability from 0 (off) to below 1")
_OPENAI_PENALTY = number(lambda v: -2 <= v <= 2, "a number from -2 to 2")

# One for each field of GenerationParams, in its order.
CHECKS: Final[dict[str, Check]] = {
    "max_new_tokens": integer(1, "an integer of at least 1"),
    "max_length": integer(1, "an integer of at least 1"),
    "min_new_tokens": integer(0, "an integer of at least 0"),
    "min_length": integer(0, "an integer of at least 0"),
    "max_time": number(lambda v: v > 0, "a number of seconds above 0"),
    "eos_token_id": tokens,
    "stop_strings": strings,
    "overflow": choice("error", "truncate", "slide"),
    "do_sample": flag,
    "num_return_sequences": integer(1, "an integer of at least 1"),
    "seed": integer(0, "an integer of at least 0"),
    # Logits divided by less would overflow float32.
    "temperature": number(lambda v: v >= 1e-30, f"a number above 0; {_GREEDY_ADVICE}"),
    "top_k": integer(0, "an integer of at least 0, which turns it off"),
    "top_p": _MASS,
    "min_p": _MASS,
    "typical_p": number(lambda v: 0 < v <= 1, "a number above 0, up to 1, which turns it off"),
    "epsilon_cutoff": _CUTOFF,
    "eta_cutoff": _CUTOFF,
    "repetition_penalty": number(lambda v: v > 0, "a number above 0; 1 is off"),
    "frequency_penalty": _OPENAI_PENALTY,
    "presence_penalty": _OPENAI_PENALTY,
    "no_repeat_ngram_size": integer(0, "an integer of at least 0, which turns it off"),
    "logit_bias": biases,
    "bad_words_ids": token_sequences,
    "suppress_tokens": tokens,
    "begin_suppress_tokens": tokens,
    "forced_bos_token_id": token,
    "forced_eos_token_id": tokens,
    "prefix_allowed_tokens_fn": function,
}
PARAMETERS: Final = tuple(CHECKS)

# Without effect unless do_sample is true.
SAMPLING_ONLY: Final = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "seed",
    "num_return_sequences",
)

# Two names for one limit; the total length counts the prompt.
LENGTH_PAIRS: Final = (("max_new_tokens", "max_length"), ("min_new_tokens", "min_length"))
