"""Line charts with logarithmic axes as inline SVG, with a legend that works without colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 900, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 44
# Colours and dashes in style.css: enough for two providers with each precision.
LOOKS = 12
# The powers of ten that a float has with all of its digits.
FEWEST, MOST = -307, 307


class Line(NamedTuple):
    """A name and its points (x, y), both above 0; `marked` has a dot at each."""

    name: str
    points: Sequence[tuple[float, float]]
    marked: bool = True


class _Scale:
    """Numbers from the smallest to the largest on a logarithm, between two places."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._start, self._end = start, end
        low, high = math.log10(min(values)), math.log10(max(values))
        room = max(0.05 * (high - low), 0.05)
        self._low, self._high = low - room, high + room
        self.ticks = self._ticks()

    def at(self, value: float) -> float:
        part = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + part * (self._end - self._start)

    def _ticks(self) -> list[float]:
        """Round numbers: powers of ten where they are many, else with 2 and 5, or each tenth."""
        first, last = max(math.floor(self._low), FEWEST), min(math.ceil(self._high), MOST)
        for digits in ((1,), (1, 2, 5), range(1, 10), [n / 10 for n in range(10, 100)]):
            found = [d * 10.0**power for power in range(first, last + 1) for d in digits]
            inside = [t for t in found if self._low <= math.log10(t) <= self._high]
            if len(inside) >= 3:
                return inside[:: -(-len(inside) // 9)]
        return inside


def chart(title: str, lines: Sequence[Line], across: str, up: str) -> str:
    """Nothing where no line has a point. A line's look is by its place among all of them."""
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    x = _Scale([point[0] for point in points], LEFT, WIDTH - RIGHT)
    y = _Scale([point[1] for point in points], HEIGHT - BOTTOM, TOP)
    names = "; ".join(line.name for line in lines if line.points)
    drawn = "".join(_drawn(line, n % LOOKS, x, y) for n, line in enumerate(lines) if line.points)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="plot">{_legend(lines)}'
        f'<svg class="plot chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: {escape(up)} by {escape(across)} of {escape(names)}">'
        f'<g class="grid">{_grid(x, y)}'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}">{escape(across)}</text>'
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">{escape(up)}'
        f"</text></g>{drawn}</svg></div>"
    )


def _grid(x: _Scale, y: _Scale) -> str:
    across = "".join(
        f'<line x1="{x.at(t):.1f}" x2="{x.at(t):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text x="{x.at(t):.1f}" y="{HEIGHT - BOTTOM + 16}">{t:g}</text>'
        for t in x.ticks
    )
    up = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.at(t):.1f}" y2="{y.at(t):.1f}"/>'
        f'<text class="up" x="{LEFT - 8}" y="{y.at(t) + 4:.1f}">{t:g}</text>'
        for t in y.ticks
    )
    return across + up


def _drawn(line: Line, look: int, x: _Scale, y: _Scale) -> str:
    places = [(x.at(across), y.at(up), across, up) for across, up in line.points]
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top, *_ in places)
    dots = "".join(
        f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3.5"><title>{escape(line.name)}, {across:g}: '
        f"{up:.4g}</title></circle>"
        for left, top, across, up in places
        if line.marked or len(places) == 1
    )
    return f'<g class="look{look}"><polyline points="{path}"/>{dots}</g>'


def _legend(lines: Sequence[Line]) -> str:
    items = "".join(
        f'<li class="look{number % LOOKS}"><svg viewBox="0 0 28 8" width="28" height="8" '
        f'aria-hidden="true"><polyline points="0,4 28,4"/></svg> {escape(line.name)}</li>'
        for number, line in enumerate(lines)
        if line.points
    )
    return f'<ul class="legend lines">{items}</ul>'
