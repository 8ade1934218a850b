"""The text of a run, each new token coloured by its probability; and how tokens are written.

Colours come with an underline, and every figure is in the label: nothing needs colour to be read.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from html import escape

from gpt2onnx.page.run import Option, Run, Step

# From a probability of the one before on: a colour and an underline each.
BOUNDS = (0.01, 0.1, 0.5, 0.9)
LEVELS = ("below 1 %", "1 to 10 %", "10 to 50 %", "50 to 90 %", "90 % and above")

# At a border of the token or of a line, or several.
_SPACES = re.compile(r"^ +| +$|(?<=\n) +| {2,}", re.MULTILINE)
_SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\x7f": "␡"}


def text(run: Run) -> str:
    """The prompt and the new tokens, each with a card of what else it could have been."""
    tokens = "".join(_token(number, step) for number, step in enumerate(run.steps, 1))
    end = f"end: {run.end}" if run.end else "interrupted"
    return (
        f'<div class="text"><span class="prompt">{flowing(run.prompt)}</span>{tokens}'
        f'<span class="end">{escape(end)}</span></div>'
    )


def legend() -> str:
    items = "".join(
        f'<li><span class="t p{level}">{name}</span></li>' for level, name in enumerate(LEVELS)
    )
    return f'<ul class="legend">{items}</ul>'


def visible(text: str) -> str:
    """A token as HTML, with signs for what can't be seen: line ends, spaces but those in a line."""
    return escape("".join(map(_sign, _SPACES.sub(_spaces, text)))) or "∅"


def flowing(text: str) -> str:
    """A part of a text as HTML: spaces stay, and a line's end is shown and kept."""
    return escape("".join("⏎\n" if each == "\n" else _sign(each) for each in text))


def percent(probability: float) -> str:
    """As HTML. What rounds to nothing is told from what is nothing."""
    shown = f"{probability:.2%}"
    if probability and shown == "0.00%":
        shown = "&lt;0.01%"
    return shown.replace("%", "\N{NO-BREAK SPACE}%")


def level(probability: float) -> int:
    """Which of LEVELS a probability is in."""
    return bisect_right(BOUNDS, probability)


def _spaces(match: re.Match[str]) -> str:
    count = len(match[0])
    return "␣" * count if count < 4 else f"␣\N{MULTIPLICATION SIGN}{count}"


def _sign(character: str) -> str:
    """The character, or how to write one that has no look of its own."""
    if sign := _SIGNS.get(character):
        return sign
    if character < " ":
        return chr(0x2400 + ord(character))
    if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp"):
        return f"[U+{ord(character):04X}]"
    return character


def _token(number: int, step: Step) -> str:
    shown = flowing(step.text) or "∅"
    return (
        f'<span class="t p{level(step.probability)}" tabindex="0" role="note" '
        f'aria-label="{_label(number, step)}">{shown}{_card(number, step)}</span>'
    )


def _label(number: int, step: Step) -> str:
    others = ", ".join(f"{visible(other.text)} {percent(other[1])}" for other in step.others)
    return (
        f"step {number}: {visible(step.text)} {percent(step.probability)}"
        + (f", entropy {step.entropy:.2f} bits" if step.entropy is not None else "")
        + (f"; others: {others}" if others else "")
    )


def _card(number: int, step: Step) -> str:
    """What hovering and the keyboard's focus show; the label says the same to a screen reader."""
    entropy = "" if step.entropy is None else f"<span>entropy {step.entropy:.2f} bits</span>"
    rows = "".join(_row(option, chosen) for option, chosen in step.options)
    return (
        f'<span class="card" aria-hidden="true"><span class="head"><b>step {number}</b>{entropy}'
        f"</span>{rows}</span>"
    )


def _row(option: Option, chosen: bool) -> str:
    mark = ' class="row chosen"' if chosen else ' class="row"'
    return (
        f"<span{mark}><code>{visible(option.text)}</code>"
        f'<span class="bar"><span style="width:{option.probability:.2%}"></span></span>'
        f"<span>{percent(option.probability)}</span></span>"
    )
