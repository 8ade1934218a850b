"""A machine's pace in a run: where its turns took longer than they cost, something else ran.

Knows turns that were timed; knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.fleet.costs import Costs, Turn


class Pace:
    """How much work is done by a moment: as much as time passes, but for where a run was slower."""

    def __init__(self, turns: Sequence[Turn], costs: Costs, start: float) -> None:
        """`turns` in their order; `start` is the clock's 0."""
        times, done = [0.0], [0.0]
        for each in turns:
            for moment, work in (  # nothing is known of the time before it
                (each.began - start, each.began - start - times[-1]),
                (each.began - start + each.seconds, costs.seconds(each.work)),
            ):
                times.append(max(moment, times[-1]))
                done.append(done[-1] + max(work, 0.0))
        self._times, self._done = np.array(times), np.array(done)

    def after(self, moment: float, seconds: float) -> float:
        """When work that costs so much is done that is begun at a moment."""
        done = _through(moment, self._times, self._done) + seconds
        return max(moment, _through(done, self._done, self._times))


def _through(x: float, xs: np.ndarray, ys: np.ndarray) -> float:  # [n], [n]
    """Between the points straight, behind the last one at 45 degrees."""
    if x > xs[-1]:
        return float(ys[-1] + x - xs[-1])
    return float(np.interp(x, xs, ys))
