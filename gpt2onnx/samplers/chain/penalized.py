"""A chain of penalties on a row of logits, and which of them it may have changed.

Knows nothing of what any penalty does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from gpt2onnx.samplers.candidates import FloatArray, IntArray
from gpt2onnx.samplers.changes import Change, SparsePenalty
from gpt2onnx.samplers.penalties import Penalty


class Penalized(NamedTuple):
    """A row after penalties, the very same one where they changed nothing.

    No other logits than those of the `touched` tokens differ, which may come in any order and more
    than once; None is for any token.
    """

    logits: FloatArray  # [vocab]
    touched: list[IntArray] | None  # of each penalty: [k]


class Penalties:
    """One penalty that applies all in turn; for those that change few logits it copies once."""

    def __init__(self, steps: Iterable[Penalty]) -> None:
        self._chain = [(step, _change_of(step)) for step in steps]

    def __call__(
        self, history: IntArray, logits: FloatArray
    ) -> FloatArray:  # [n], [vocab] -> [vocab]
        return self.on(history, logits).logits

    def on(self, history: IntArray, logits: FloatArray) -> Penalized:  # [n], [vocab]
        """The row that comes of one, and what has become of which."""
        touched: list[IntArray] | None = []
        copied = None  # what may be written to
        for step, change_of in self._chain:
            if not change_of:
                given, logits = logits, step(history, logits)
                touched = touched if logits is given else None
            elif change := change_of(history, logits):
                if logits is not copied:
                    logits = copied = logits.copy()
                logits[change.ids] = change.logits
                if touched is not None:
                    touched.append(change.ids)
        return Penalized(logits, touched)


def _change_of(step: Penalty) -> Callable[[IntArray, FloatArray], Change | None] | None:
    """What tells the change of a sparse penalty with its arguments; None for any other."""
    if isinstance(step, partial) and isinstance(step.func, SparsePenalty):
        return partial(step.func.change, *step.args, **step.keywords)
    return None
