"""OpenAI's fields as GenerationParams: what is given, and OpenAI's defaults where nothing is.

Every parameter of GenerationParams is a field by its own name, too. Knows no endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpt2onnx.errors import shown
from gpt2onnx.samplers.params.table import PARAMETERS
from gpt2onnx.server.fields import Fields, refusal

MOST_STOPS = 32
MOST_BIASES = 1024
MOST_SCHEMA_BYTES = 64 * 1024
MOST_SEQUENCES = 128
# A request's place in the queue, from -10 to 10.
PRIORITIES = 10
# What no text can say isn't for clients.
SERVED = {name: each for name, each in PARAMETERS.items() if each.kind}
_CONSTRAINTS = ("regex", "json_schema", "grammar")
_SAME = {"n": "num_return_sequences", "stop": "stop_strings"}


def parameters_of(fields: Fields, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What a request asks of generate, `defaults` being the model's own. Raises RequestError."""
    given = fields.all_of(SERVED)
    for name, own in _SAME.items():
        _take(fields, name, own, given)
    if form := _response_format(fields):
        if given.keys() & {*_CONSTRAINTS, "choices"}:
            raise refusal("response_format", "doesn't go with another constraint")
        given["json_schema"] = form
    _check_bounds(given)
    if isinstance(bias := given.get("logit_bias"), dict):
        given["logit_bias"] = {_token(key): value for key, value in bias.items()}
    for name in ("num_return_sequences", "best_of"):
        if given.get(name) == 1 and not isinstance(given[name], bool):
            del given[name]
    return _with_defaults(given, defaults)


def length_of(fields: Fields, names: tuple[str, ...], default: int | None) -> int | None:
    """max_tokens by whichever of its names; None where max_length or nothing bounds it."""
    found = [name for name in (*names, "max_new_tokens") if name in fields]
    if len(found) > 1:
        raise refusal(found[1], f"is the same as {found[0]}: leave one out")
    if not found:
        return None if "max_length" in fields else default
    return fields.integer(found[0], 0, 2**31 - 1)


def _with_defaults(given: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's: draws at temperature 1 from all tokens, and at 0 takes the best one."""
    if _is_zero(given.get("temperature")) and not given.get("do_sample"):
        for name in ("temperature", "top_p", "seed"):  # what OpenAI's clients send all the same
            given.pop(name, None)
        return {**given, "do_sample": False}
    if _is_above(given.get("num_beams"), 1) or _is_above(given.get("penalty_alpha"), 0):
        return given
    given.setdefault("do_sample", True)
    if given["do_sample"] and "top_k" not in defaults:
        given.setdefault("top_k", 0)
    return given


def _take(fields: Fields, name: str, own: str, given: dict[str, Any]) -> None:
    if name in fields:
        if own in given:
            raise refusal(own, f"is the same as {name}: leave one out")
        given[own] = fields.take(name)


def _response_format(fields: Fields) -> Any:
    """The schema that response_format asks for, if any."""
    form = Fields(fields.object("response_format"))
    kind = form.take("type", "text")
    if kind not in ("text", "json_object", "json_schema"):
        raise refusal(
            "response_format", f"has type {shown(kind)}: expected text, json_object or json_schema"
        )
    schema: Any = {"type": "object"} if kind == "json_object" else None
    if kind == "json_schema":
        inner = form.object("json_schema")
        schema = inner.get("schema", {"type": "object"})
    form.end()
    return schema


def _check_bounds(given: Mapping[str, Any]) -> None:
    """Bounds on what would take work to look at. Raises RequestError."""
    for name, most in (("stop_strings", MOST_STOPS), ("logit_bias", MOST_BIASES)):
        value = given.get(name)
        if isinstance(value, list | dict) and len(value) > most:
            shown_name = "stop" if name == "stop_strings" else name
            raise refusal(shown_name, f"has {len(value)} members: expected at most {most}")
    for name in (*_CONSTRAINTS, "choices"):
        if name in given and (size := _size(given[name])) > MOST_SCHEMA_BYTES:
            raise refusal(name, f"has {size:,} characters: expected at most {MOST_SCHEMA_BYTES:,}")


def require_few(sequences: object, prompts: int) -> None:
    """Raises RequestError for more sequences than a request may ask for."""
    each = sequences if isinstance(sequences, int) else 1
    if each * prompts > MOST_SEQUENCES:
        raise refusal(
            "n",
            f"times the number of prompts is {each * prompts}: expected at most {MOST_SEQUENCES}",
        )


def _size(value: Any) -> int:
    """The characters of a value's texts and numbers."""
    if isinstance(value, dict):
        return sum(_size(key) + _size(member) + 2 for key, member in value.items())
    if isinstance(value, list):
        return sum(_size(member) + 1 for member in value)
    return len(value) if isinstance(value, str) else 4


def _token(key: object) -> object:
    """A token id, which JSON can only write as a string."""
    return int(key) if isinstance(key, str) and key.isdecimal() and len(key) < 20 else key


def _is_zero(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and value == 0


def _is_above(value: object, bound: float) -> bool:
    return isinstance(value, int | float) and value > bound
