"""The page's knobs: a control for each parameter of the table, which says how it is read."""

from __future__ import annotations

import json
import re
from html import unescape

from gpt2onnx.samplers.params.table import PARAMETERS
from gpt2onnx.server.failures import FIELDS
from gpt2onnx.server.knobs import FORMS, form_knob, more_knobs, usual_knobs

PAGE = usual_knobs() + more_knobs() + "".join(map(form_knob, FORMS))
CONTROLS = re.findall(
    r'<(input|select|textarea) id="(\w+)" name="(\w+)" data-kind="(\w+)" data-needs="([\w ]*)"'
    r"(?: data-off='([^']*)')?",
    PAGE,
)
# One text is shown, whose beginning the page keeps; no draft is served; functions no text can say.
WITHOUT = {
    *("num_return_sequences", "return_alternatives", "prefill_ids"),
    *("num_assistant_tokens", "assistant_confidence_threshold"),
    *("stop_fn", "prefix_allowed_tokens_fn"),
}


def test_there_is_one_for_each_parameter() -> None:
    names = [name for _, _, name, *_ in CONTROLS]
    expected = {FIELDS.get(name, name) for name in PARAMETERS if name not in WITHOUT}
    assert sorted(names) == sorted([*expected, "negative_prompt"])


def test_each_says_what_the_table_says() -> None:
    own = {FIELDS.get(name, name): each for name, each in PARAMETERS.items()}
    for _, id_, name, kind, needs, off in CONTROLS:
        assert id_ == name
        if name != "negative_prompt":
            each = own[name]
            assert kind == each.kind
            assert needs.split() == [FIELDS.get(other, other) for other in each.needs]
            assert json.loads(unescape(off)) == list(each.off)


def test_choices_are_those_of_the_table() -> None:
    selects = dict(re.findall(r'<select id="(\w+)".*?>(.*?)</select>', PAGE))
    options = {name: re.findall(r"<option>(\w+)</option>", html) for name, html in selects.items()}
    assert options == {
        "overflow": ["error", "truncate", "slide"],
        "do_sample": ["true", "false"],
        "early_stopping": ["true", "false", "never"],
        "json_layout": ["spaced", "compact", "free"],
    }


def test_help_is_in_the_page_s_words() -> None:
    """Nothing of how a command line writes values, and no default that the server hasn't."""
    helps = dict(re.findall(r'<small id="(\w+)-help".*?>(.*?)</small>', PAGE))
    assert helps["stop"] == "end before this text"
    assert helps["regex"] == "constrain the text to this regular expression"
    assert helps["dry_sequence_breakers"].startswith("a repetition ends at this text (default: ")
    assert helps["guidance_scale"].endswith("away from negative_prompt; 1 is off")
    for name, text in helps.items():
        assert "repeatable" not in text, name
        assert "128" not in text, name
