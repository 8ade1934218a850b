from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from gpt2onnx.export.quantization.table import PRECISIONS
from gpt2onnx.page.chart import Line, chart
from gpt2onnx.page.frame import frame

LINES = [
    Line("a & b", [(1, 10), (10, 100), (100, 1000)]),
    Line("nothing", []),
    Line("<c>", [(1, 1000), (100, 10)], marked=False),
]


def test_equal_factors_are_equal_distances() -> None:
    root = ET.fromstring(chart("Title", LINES, "batch", "tokens/s"))
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter("circle")]
    (x0, y0), (x1, y1), (x2, y2) = circles
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.15)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.15)
    assert x2 > x1 > x0
    assert y2 < y1 < y0  # up is more


def test_names_and_looks() -> None:
    svg = chart("Title", LINES, "batch", "tokens/s")
    assert "Title: tokens/s by batch of a &amp; b; &lt;c&gt;" in svg
    assert re.findall(r'<g class="(look\d)"', svg) == ["look0", "look2"]  # by place among all
    assert "a &amp; b, 10: 100" in svg


def test_two_providers_with_each_precision_can_be_told_apart() -> None:
    names = [f"{provider} {precision}" for provider in ("cpu", "cuda") for precision in PRECISIONS]
    svg = chart("Title", [Line(name, [(1, 1), (2, 2)]) for name in names], "batch", "tokens/s")
    looks = re.findall(r'<g class="(look\d+)"', svg)
    assert len(set(looks)) == len(names)
    rules = dict(re.findall(r"\.(look\d+) \{[^}]*--dash: ([^;]+);", frame("", "", [], "")))
    assert len({rules[look] for look in looks}) == len(names)  # without colour, too


@pytest.mark.parametrize("values", [[5], [5, 5.001], [1e-9, 1e9], [32, 512], [0.31, 0.35]])
def test_every_range_has_a_few_numbers(values: list[float]) -> None:
    svg = chart("Title", [Line("a", [(value, value) for value in values])], "x", "y")
    ticks = [float(t) for t in re.findall(r'<text class="up"[^>]*>([^<]+)</text>', svg)]
    assert 1 <= len(ticks) <= 9
    assert ticks == sorted(ticks)


def test_nothing_to_show() -> None:
    assert chart("Title", [Line("a", [])], "x", "y") == ""
