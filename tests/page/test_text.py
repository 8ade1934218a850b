from __future__ import annotations

import re
from html import unescape

import pytest

from gpt2onnx.page import Option, Run, Step
from gpt2onnx.page.text import LEVELS, flowing, legend, level, percent, text, visible


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#x27;"),
        (" a b ", "␣a b␣"),
        ("  ", "␣␣"),
        ("\n       if", "⏎␣\N{MULTIPLICATION SIGN}7if"),
        ("a  b", "a␣␣b"),
        ("\t\r\x00\x7f", "⇥␍␀␡"),
        ("\u200b\u202e\u2028\x85", "[U+200B][U+202E][U+2028][U+0085]"),
        ("", "∅"),
        ("é漢🙂", "é漢🙂"),
    ],
)
def test_what_cant_be_seen_has_a_sign(token: str, shown: str) -> None:
    assert visible(token) == shown


def test_in_a_text_spaces_and_line_ends_stay() -> None:
    assert flowing("a  b\n <c>") == "a  b⏎\n &lt;c&gt;"


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(0.0, 0), (0.0099, 0), (0.01, 1), (0.1, 2), (0.4999, 2), (0.5, 3), (0.9, 4), (1.0, 4)],
)
def test_levels(probability: float, expected: int) -> None:
    assert level(probability) == expected


def test_the_legend_names_every_level() -> None:
    assert re.findall(r"p(\d)\">([^<]+)<", legend()) == list(zip("01234", LEVELS, strict=True))


def test_percent() -> None:
    assert percent(0.12345).split() == ["12.35", "%"]
    assert percent(0.0).split() == ["0.00", "%"]
    assert percent(1e-9).split() == ["&lt;0.01", "%"]


def test_a_label_says_all_that_a_colour_does() -> None:
    others = [Option('"<', 0.5), Option(" x", 0.125)]
    html = text(Run("p", [Step("&", 0.25, others, 1.5)], "eos"))
    (label,) = re.findall(r'aria-label="([^"]*)"', html)
    said = unescape(label).replace("\N{NO-BREAK SPACE}", " ")
    assert said == 'step 1: & 25.00 %, entropy 1.50 bits; others: "< 50.00 %, ␣x 12.50 %'
    assert 'tabindex="0"' in html
    assert html.index("&quot;&lt;</code>") < html.index("<code>&amp;") < html.index("␣x</code>")
    assert re.findall(r"width:([\d.]+)%", html) == ["50.00", "25.00", "12.50"]
    assert "end: eos" in html


def test_an_interrupted_run_says_so() -> None:
    assert ">interrupted<" in text(Run("p", [Step("a", 1.0)]))
