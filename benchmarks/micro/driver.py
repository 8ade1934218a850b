"""How small benchmarks measure: contenders take turns, medians count, agreement stands beside.

What else the machine does falls on all contenders alike, since each round has every one of them
once. The first round warms up and doesn't count. Knows nothing of what is measured.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Timed(NamedTuple):
    """What a run took and what came of it."""

    seconds: float
    answer: Any = None


@dataclass
class Result:
    """A contender's runs, round by round, and what came of the last one."""

    seconds: list[float] = field(default_factory=list)
    answer: Any = None

    @property
    def ms(self) -> float:
        """The median."""
        return 1e3 * statistics.median(self.seconds)

    @property
    def least_ms(self) -> float:
        """What it takes when nothing else runs."""
        return 1e3 * min(self.seconds)

    def times(self, other: Result) -> float:
        """How many times the other's time it takes: the median of the rounds' own ratios."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(mine / its for mine, its in pairs)


def timed(call: Callable[[], Any]) -> Timed:
    """Run a call and time it."""
    started = time.perf_counter()
    answer = call()
    return Timed(time.perf_counter() - started, answer)


def in_turn(contenders: Mapping[str, Callable[[], Timed]], rounds: int) -> dict[str, Result]:
    """Every contender once a round, in the same order; one round more before that warms up."""
    results = {name: Result() for name in contenders}
    for number in range(1 + rounds):
        for name, run in contenders.items():
            seconds, results[name].answer = run()
            if number:
                results[name].seconds.append(seconds)
    return results


def equal_tokens(tokens: Sequence[int], reference: Sequence[int]) -> int:
    """How many tokens both begin with alike."""
    pairs = zip(tokens, reference, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(reference)))


class Report:
    """Prints a row as it is measured, and all of them as JSON at the end."""

    def __init__(self, *columns: str) -> None:
        """Columns in the order of the rows' figures; the first one is the row's name."""
        self.columns = columns
        self.rows: list[dict[str, Any]] = []
        print(f"{columns[0]:<28}" + "".join(f"{name:>{_width(name)}}" for name in columns[1:]))

    def row(self, *figures: Any) -> None:
        """A figure a column; None where there is none."""
        self.rows.append(dict(zip(self.columns, figures, strict=True)))
        cells = zip(self.columns[1:], figures[1:], strict=True)
        text = "".join(_cell(figure, _width(name)) for name, figure in cells)
        print(f"{figures[0]:<28}{text}", flush=True)

    def end(self, **circumstances: Any) -> None:
        """The last line: what was asked for, and every row with its figures in full."""
        print(json.dumps({**circumstances, "rows": self.rows}))


def _width(column: str) -> int:
    return max(10, len(column) + 2)


def _cell(figure: Any, width: int) -> str:
    """Numbers to the right, with four digits; texts behind two spaces."""
    if isinstance(figure, str):
        return f"  {figure:<{width - 2}}"
    return f"{figure:>{width}.4g}" if isinstance(figure, float) else f"{_word(figure):>{width}}"


def _word(figure: Any) -> str:
    return "-" if figure is None else str(figure)
