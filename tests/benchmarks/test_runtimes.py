"""The page of the runtimes: what its cells are of, and what they say."""

from __future__ import annotations

import pytest

from benchmarks.runtimes import measure
from benchmarks.runtimes.measure import Figures, Size
from benchmarks.runtimes.page import page
from benchmarks.runtimes.rows import Row
from gpt2onnx.compare.record.answers import Parting, Program, Same
from gpt2onnx.compare.record.runs import Energy, Memory, Speed, Steps
from gpt2onnx.compare.runtimes.candidate import Told


def test_figures_are_of_answers_and_times() -> None:
    texts = [
        Same(),
        Parting(3, "a", "b", "c", 0.5, near_tie=True),
        Parting(0, "", "b", "c", 9, False),
    ]
    told = Told(Program("1.2", "masked"), texts, agreement=None)
    memory = Memory(87_400_000, None, None)
    speed = Speed(0.5, 0.0123, Steps(1.234, 2), 700, memory, Energy(None, None, {}))
    size = Size(prompts=3, tokens=6, context=16, steps=5, batch=8)
    found = measure.figures(told, speed, size, 2000)
    assert found == Figures("1.2", 9, 18, 1, 2, None, pytest.approx(12.3), 1.234, 87.4, 2000)


def figures(equal: int, near_ties: int, parted: int, batch: float | str | None = 1234.5) -> Figures:
    return Figures("1.2", equal, 128, near_ties, parted, 0.984, 12.3, 1.234, 87.4, batch)


def test_cells_are_right_or_say_what_is_wrong() -> None:
    cells = {
        ("fused", "fp32"): figures(128, 0, 0),
        ("fused", "int8"): figures(100, 2, 2, "one row alone"),
        ("fused", "int4"): figures(40, 1, 2, None),
        ("masked", "fp32"): "no `bias`",
        ("masked", "int8"): "no `bias`",
    }
    text = page([(Row("Somebody", "node"), cells)], 1)
    assert "## Somebody 1.2\n" in text
    for line in (
        "| fused | fp32 | right | 98.4% | 12.3 | 1.23 | 87 | 1234 |",
        "| fused | int8 | right but for 2 near-ties | 98.4% | 12.3 | 1.23 | 87 | can't |",
        "| fused | int4 | 40 of 128, then other ones | 98.4% | 12.3 | 1.23 | 87 |  |",
        "| masked | fp32 | can't run it |  |  |  |  |  |",
        "- fused at batch 8, int8: `one row alone`",
        "- masked, fp32, int8: `no 'bias'`",
    ):
        assert f"\n{line}\n" in text
