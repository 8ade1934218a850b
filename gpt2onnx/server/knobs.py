"""The page's knobs: a control for each parameter that a request may have, of the same table.

Knows HTML and the table; what a control's value means, settings.js knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gpt2onnx.samplers.params.parameter import Parameter
from gpt2onnx.samplers.params.table import ParameterTable
from gpt2onnx.server.failures import FIELDS
from gpt2onnx.server.sampling import SERVED

# The usual ones, and what they begin with.
USUAL = {
    "max_new_tokens": "48",
    "temperature": "0.8",
    "top_k": "",
    "top_p": "",
    "seed": "",
    "num_beams": "",
}
# What the text must be; they stand beside it.
FORMS = ("regex", "json_schema", "json_layout", "grammar", "choices")
# The page shows one text, which begins with what was kept of it; the server runs no draft.
_LEFT_OUT = (
    *("num_return_sequences", "return_alternatives", "prefill_ids"),
    *("num_assistant_tokens", "assistant_confidence_threshold"),
)
_HINTS = get_type_hints(ParameterTable)
_NAMES = (*SERVED, "negative_prompt")
# How values are written there: files, signs between ids, options that are repeated.
_COMMAND_LINE = re.compile(
    r"(?<=regular expression), .*|; '' for none|"
    r"(: a file, or|, such as \d|; repeatable).*?(?= \(|$)"
)
_HELP = {
    "max_new_tokens": "write at most this many tokens",
    "max_length": "max_tokens, counting the prompt's tokens as well",
    "top_k": "keep the N most probable tokens; 0 keeps all",
    "do_sample": "draw tokens by their probabilities (default: true, but at temperature 0, with "
    "beams and with penalty_alpha)",
}
_PLACEHOLDERS = {
    "names": "top_k, temperature",
    "texts": "one a line; \\n is a line end",
    "tokens": "[1, 2]",
    "words": "[[5], [7, 9]]",
    "phrases": "[[5], [7, 9]]",
    "biases": '{"50256": -5}',
    "schema": '{"type": "object"}',
}
_NEGATIVE = (
    '<div class="knob wide"><label for="negative_prompt">negative_prompt</label>'
    '<textarea id="negative_prompt" name="negative_prompt" data-kind="regex" '
    'data-needs="guidance_scale" rows="2" aria-describedby="negative_prompt-help"></textarea>'
    '<small id="negative_prompt-help">what guidance_scale steers away from</small></div>'
)


def usual_knobs() -> str:
    """Those that everybody turns; their help is told, and shown when they are pointed at."""
    return "".join(_knob(name, SERVED[name], value) for name, value in USUAL.items())


def more_knobs() -> str:
    """All others, by the table's groups, each with its help below it."""
    return "".join(
        f"<fieldset><legend>{escape(group)}</legend>"
        f'<div class="knobs">{"".join(knobs)}</div></fieldset>'
        for group, knobs in _groups().items()
        if knobs
    )


def form_knob(name: str) -> str:
    """One of FORMS."""
    return _knob(name, SERVED[name])


def _groups() -> dict[str, list[str]]:
    group, groups = "", dict[str, list[str]]()
    for name, each in SERVED.items():
        group = each.group or group
        if name not in (*USUAL, *FORMS, *_LEFT_OUT):
            groups.setdefault(group, []).append(_knob(name, each))
    groups["guidance"].append(_NEGATIVE)
    return groups


def _knob(name: str, each: Parameter, value: str | None = None) -> str:
    """A control, its label and its help. With a value it's a usual one."""
    field = FIELDS.get(name, name)
    help_ = escape(_help(name, each))
    shown = f'<small id="{field}-help"{"" if value is None else " class=said"}>{help_}</small>'
    wide = " wide" if each.kind in ("texts", "schema", "grammar") else ""
    return (
        f'<div class="knob{wide}"><label for="{field}">{field}</label>'
        f"{_control(name, field, each, value or '')}{shown}</div>"
    )


def _control(name: str, field: str, each: Parameter, value: str) -> str:
    needs = " ".join(FIELDS.get(other, other) for other in each.needs)
    about = (
        f'id="{field}" name="{field}" data-kind="{each.kind}" data-needs="{needs}" '
        f"data-off='{escape(json.dumps(each.off))}' aria-describedby=\"{field}-help\" "
        f'placeholder="{escape(_PLACEHOLDERS.get(each.kind, ""))}" autocomplete="off"'
    )
    if each.kind in ("flag", "choice", "early_stopping"):
        options = "".join(f"<option>{option}</option>" for option in _options(_HINTS[name]))
        return f'<select {about}><option value=""></option>{options}</select>'
    if each.kind in ("texts", "schema", "grammar"):
        rows = 2 if each.kind == "texts" and name not in FORMS else 8
        return f'<textarea {about} rows="{rows}" spellcheck="false"></textarea>'
    if each.kind in ("integer", "number", "token"):
        step = "any" if each.kind == "number" else "1"
        return f'<input {about} type="number" step="{step}" value="{value}">'
    return f'<input {about} spellcheck="false">'


def _options(hint: Any) -> Iterator[str]:
    """What a choice or a flag may be, as JSON writes it."""
    if hint is bool:
        yield from ("true", "false")
    elif get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for each in get_args(hint):
            if each is not NoneType:
                yield from _options(each)


def _help(name: str, each: Parameter) -> str:
    """The table's help, without what is only so on the command line, and with OpenAI's defaults."""
    text = _COMMAND_LINE.sub("", _HELP.get(name, each.help))
    return re.sub(
        r"--([a-z-]+)",
        lambda match: written if (written := match[1].replace("-", "_")) in _NAMES else match[0],
        text,
    )
