from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from gpt2onnx.page import Step
from gpt2onnx.page.plot import plot

STEPS = [Step('<"&\n', 0.5, (), 0.0), Step("b", 0.25, (), 4.0), Step("c", 0.125, (), 2.0)]


def heights(svg: str) -> list[float]:
    (points,) = re.findall(r'<polyline class="line" points="([^"]+)"', svg)
    return [float(point.split(",")[1]) for point in points.split()]


def test_a_point_is_as_high_as_its_entropy() -> None:
    svg = plot(STEPS)
    low, high, middle = heights(svg)
    assert low > middle > high
    assert middle == pytest.approx((low + high) / 2, abs=0.1)
    rings = [float(y) for y in re.findall(r'cy="([\d.]+)"', svg)]
    assert rings == pytest.approx([low + (high - low) / 4 * bits for bits in (1, 2, 3)], abs=0.1)


def test_titles_have_the_figures() -> None:
    root = ET.fromstring(plot(STEPS))
    titles = [each.text for each in root.iter("title")]
    assert titles[1].split("\n") == [
        "step 2: b 25.00\N{NO-BREAK SPACE}%",
        "entropy 4.00 bits, surprise 2.00 bits",
    ]
    assert titles[0].startswith('step 1: <"&⏎ ')


@pytest.mark.parametrize("count", [1, 2, 21, 1000])
def test_every_length_has_a_few_numbers_in_order(count: int) -> None:
    root = ET.fromstring(plot([Step("a", 0.5, (), 1.0)] * count))
    numbers = [int(e.text) for e in root.findall(".//g[@class='grid']/text") if not e.get("class")]
    assert numbers[0] == 1
    assert numbers == sorted(numbers)
    assert len(numbers) <= 21


def test_a_surprise_without_end_is_an_arrow() -> None:
    svg = plot([Step("a", 0.0, (), 1.0)])
    assert "↑" in svg
    assert "cy=" not in svg
    assert "surprise inf bits" in svg


@pytest.mark.parametrize("steps", [[], [Step("a", 0.5)], [STEPS[0], Step("a", 0.5)]])
def test_without_entropies_there_is_no_plot(steps: list[Step]) -> None:
    assert plot(steps) == ""
