"""OpenAI's fields as GenerationParams: what is given, and OpenAI's defaults where nothing is.

Every parameter of GenerationParams is a field by its own name, too. Knows no endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args, get_type_hints

from gpt2onnx.samplers.params.parameter import Parameter
from gpt2onnx.samplers.params.rules import CONSTRAINTS
from gpt2onnx.samplers.params.table import PARAMETERS, ParameterTable
from gpt2onnx.server.fields import Field, Form, integer, mapping, nested, one_of, refusal

MOST_STOPS = 32
MOST_BIASES = 1024
MOST_SCHEMA_BYTES = 64 * 1024
MOST_SEQUENCES = 128
MOST_TOKENS = 2**31 - 1
# What no text can say isn't for clients.
SERVED = {name: each for name, each in PARAMETERS.items() if each.kind}
_TYPES = get_type_hints(ParameterTable)
_ID: Final = {"type": "integer", "minimum": 0}
_IDS: Final = {"type": "array", "items": _ID}
_WORDS: Final = {"type": "array", "items": _IDS}
# Each kind of value in JSON.
KINDS: Final[Mapping[str, dict[str, Any]]] = {
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "flag": {"type": "boolean"},
    "choice": {"type": "string"},
    "names": {"type": "array", "items": {"type": "string"}},
    "texts": {
        "anyOf": [
            {"type": "string"},
            _ID,
            {"type": "array", "items": {"anyOf": [{"type": "string"}, _ID]}},
        ]
    },
    "token": _ID,
    "tokens": {"anyOf": [_ID, _IDS]},
    "words": _WORDS,
    "phrases": {"type": "array", "items": {"anyOf": [_IDS, _WORDS]}},
    "biases": {
        "type": "object",
        "additionalProperties": {"type": "number"},
        "maxProperties": MOST_BIASES,
    },
    "early_stopping": {"anyOf": [{"type": "boolean"}, {"const": "never"}]},
    "regex": {"type": "string"},
    "schema": {"anyOf": [{"type": "string"}, {"type": "object"}]},
    "grammar": {"type": "string"},
}
_SAME = {"n": "num_return_sequences", "stop": "stop_strings"}
_SCHEMA = Form(
    {
        "schema": mapping("The schema."),
        **{name: Field({}) for name in ("name", "description", "strict")},
    },
    ignored=(),
)
_FORMAT = Form(
    {
        "type": one_of(("text", "json_object", "json_schema"), "What the text is.", "text"),
        "json_schema": nested(_SCHEMA, "Of the type json_schema."),
    },
    ignored=(),
)


def length_fields(*names: str) -> dict[str, Field]:
    """What bounds a text's length, by these names and our own."""
    return dict.fromkeys(
        (*names, "max_new_tokens"), integer(0, MOST_TOKENS, "The most tokens to write.")
    )


def _parameter(name: str, each: Parameter) -> Field:
    schema = KINDS[each.kind]
    if each.kind == "choice":
        schema = {**schema, "enum": _choices(_TYPES[name])}
    return Field({**schema, "description": each.help})


def _choices(of: Any) -> list[str]:
    """The strings of a Literal, or of one among others."""
    args = get_args(of)
    return [n for each in args for n in ([each] if isinstance(each, str) else _choices(each))]


# Whatever else says how to write: all parameters by their names, and OpenAI's names of some.
PARAMETER_FIELDS: Final[Mapping[str, Field]] = {
    **{name: _parameter(name, each) for name, each in SERVED.items()},
    **{name: _parameter(own, SERVED[own]) for name, own in _SAME.items()},
    "response_format": nested(_FORMAT, "A text of this form."),
}


def parameters_of(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What a request asks of generate, `defaults` being the model's own. Raises RequestError."""
    given = {name: value for name, value in fields.items() if name in SERVED}
    for name, own in _SAME.items():
        if name in fields:
            if own in given:
                raise refusal(own, f"is the same as {name}: leave one out")
            given[own] = fields[name]
    if form := _response_format(fields):
        if given.keys() & {*CONSTRAINTS}:
            raise refusal("response_format", "doesn't go with another constraint")
        given["json_schema"] = form
    _check_bounds(given)
    if isinstance(bias := given.get("logit_bias"), dict):
        given["logit_bias"] = {_token(key): value for key, value in bias.items()}
    for name in ("num_return_sequences", "best_of"):
        if given.get(name) == 1 and not isinstance(given[name], bool):
            del given[name]
    return _with_defaults(given, defaults)


def take_length(fields: dict[str, Any], names: tuple[str, ...], default: int | None) -> int | None:
    """max_tokens by whichever of its names; None where max_length or nothing bounds it."""
    found = [name for name in (*names, "max_new_tokens") if name in fields]
    if len(found) > 1:
        raise refusal(found[1], f"is the same as {found[0]}: leave one out")
    if not found:
        return None if "max_length" in fields else default
    length: int = fields.pop(found[0])
    return length


def _with_defaults(given: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's: draws at temperature 1 from all tokens, and at 0 takes the best one."""
    if _is_zero(given.get("temperature")) and not given.get("do_sample"):
        del given["temperature"]
        for name in ("top_p", "seed"):  # what OpenAI's clients send all the same
            if name in given:
                SERVED[name].check(name, given.pop(name))
        return {**given, "do_sample": False}
    if _is_above(given.get("num_beams"), 1) or _is_above(given.get("penalty_alpha"), 0):
        return given
    given.setdefault("do_sample", True)
    if given["do_sample"] and "top_k" not in defaults:
        given.setdefault("top_k", 0)
    return given


def _response_format(fields: Mapping[str, Any]) -> Any:
    """The schema that response_format asks for, if any."""
    form = fields.get("response_format", {"type": "text"})
    if form["type"] == "text":
        return None
    inner = form.get("json_schema", {}) if form["type"] == "json_schema" else {}
    return inner.get("schema", {"type": "object"})


def _check_bounds(given: Mapping[str, Any]) -> None:
    """Bounds on what would take work to look at. Raises RequestError."""
    for name, most in (("stop_strings", MOST_STOPS), ("logit_bias", MOST_BIASES)):
        value = given.get(name)
        if isinstance(value, list | dict) and len(value) > most:
            shown_name = "stop" if name == "stop_strings" else name
            raise refusal(shown_name, f"has {len(value)} members: expected at most {most}")
    for name in CONSTRAINTS:
        if name in given and (size := _size(given[name])) > MOST_SCHEMA_BYTES:
            raise refusal(name, f"has {size:,} characters: expected at most {MOST_SCHEMA_BYTES:,}")


def require_few(sequences: object, prompts: int, field: str = "n") -> None:
    """Raises RequestError for more sequences than a request may ask for."""
    each = sequences if isinstance(sequences, int) else 1
    if each * prompts > MOST_SEQUENCES:
        what = "times the number of prompts is" if field == "n" else "has"
        raise refusal(
            field, f"{what} {each * prompts}: expected at most {MOST_SEQUENCES} in one request"
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
