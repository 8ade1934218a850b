"""The entropy along a text as an inline SVG, beside each token's surprise."""

from __future__ import annotations

from collections.abc import Sequence

from gpt2onnx.page.run import Step
from gpt2onnx.page.text import percent, visible

WIDTH, HEIGHT = 900, 220
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 24
# With more steps than this, rings would run into one another: dots take their place.
DENSE = 120


def plot(steps: Sequence[Step]) -> str:
    """A line of the entropies, a ring for each surprise; nothing where no entropy is known.

    Where a surprise is beyond the plot, an arrow at its top stands for it.
    """
    entropies = [step.entropy for step in steps if step.entropy is not None]
    if not steps or len(entropies) < len(steps):
        return ""
    finite = [step.surprise for step in steps if step.surprise < 64]
    axes = _Axes(len(steps), max(1.0, *entropies, *finite))
    line = " ".join(f"{axes.x(i):.1f},{axes.y(bits):.1f}" for i, bits in enumerate(entropies, 1))
    base = axes.y(0)
    area = f"{axes.x(1):.1f},{base} {line} {axes.x(len(steps)):.1f},{base}"
    points = "".join(_point(axes, number, step) for number, step in enumerate(steps, 1))
    look = "plot dense" if len(steps) > DENSE else "plot"
    return (
        '<div class="scroll" tabindex="0" role="group" aria-label="plot">'
        f'<svg class="{look}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="entropy of each of {len(steps)} steps, in bits: from {min(entropies):.2f} '
        f'to {max(entropies):.2f}">{axes.grid()}'
        f'<polygon class="area" points="{area}"/><polyline class="line" points="{line}"/>'
        f"{points}</svg></div>"
    )


class _Axes:
    """Steps from 1 to `count` across, bits from 0 to `highest` up."""

    def __init__(self, count: int, highest: float) -> None:
        self.count = count
        self._tick = next(t for t in (0.25, 0.5, 1, 2, 5, 10, 20) if highest / t <= 6)
        self._ticks = int(-(-highest // self._tick))

    def x(self, step: int) -> float:
        return LEFT + (step - 0.5) / self.count * (WIDTH - LEFT - RIGHT)

    def y(self, bits: float) -> float:
        return TOP + (1 - bits / (self._ticks * self._tick)) * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> str:
        lines = "".join(self._rule(tick * self._tick) for tick in range(self._ticks + 1))
        every = max(1, next(t for t in (1, 2, 5, 10, 20, 50, 100, 10**9) if self.count / t <= 20))
        steps = sorted({1, *range(every, self.count + 1, every)})
        numbers = "".join(
            f'<text x="{self.x(step):.1f}" y="{HEIGHT - BOTTOM + 18}">{step}</text>'
            for step in steps
        )
        return f'<g class="grid">{lines}{numbers}</g>'

    def _rule(self, bits: float) -> str:
        y = self.y(bits)
        return (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="up" x="{LEFT - 8}" y="{y + 4:.1f}">{bits:g}</text>'
        )


def _point(axes: _Axes, number: int, step: Step) -> str:
    """A step's marks, and the strip of the plot above and below, which tells its figures."""
    x, width = axes.x(number), (WIDTH - LEFT - RIGHT) / axes.count
    mark = (
        f'<circle class="ring" cx="{x:.1f}" cy="{axes.y(step.surprise):.1f}" r="3.5"/>'
        if step.surprise < 64
        else f'<text class="ring" x="{x:.1f}" y="{TOP + 8}">↑</text>'
    )
    return (
        f"<g><title>step {number}: {visible(step.text)} {percent(step.probability)}\n"
        f"entropy {step.entropy:.2f} bits, surprise {step.surprise:.2f} bits</title>"
        f'<rect class="strip" x="{x - width / 2:.1f}" y="{TOP}" width="{width:.1f}" '
        f'height="{HEIGHT - TOP - BOTTOM}"/>{mark}</g>'
    )
