"""Penalties that change few of a row's logits: which, and to what.

They are told without the row, so that a chain of them need not copy one, and only few logits need
to be looked at afterwards. Knows nothing of what any penalty does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Concatenate, Generic, NamedTuple, ParamSpec

from gpt2onnx.samplers.candidates import FloatArray, IntArray

How = ParamSpec("How")


class Change(NamedTuple):
    """What becomes of the logits of some tokens; of a token's several the last one counts."""

    ids: IntArray  # [k]
    of: Callable[[FloatArray], FloatArray | float]  # theirs, [k] -> [k], or the same for all

    def apply(self, row: FloatArray, places: IntArray) -> None:  # [n], [k]
        """Write to a row in which the tokens stand at `places`."""
        row[places] = self.of(row.take(places))


class SparsePenalty(Generic[How]):
    """A penalty that is told by the change it makes, or None where it makes none.

    The change follows from the history and the vocabulary's size. Called, it is a penalty like any
    other: it gives the row that comes of that.
    """

    def __init__(self, change: Callable[Concatenate[IntArray, int, How], Change | None]) -> None:
        self.change = change
        update_wrapper(self, change)

    def __call__(
        self, history: IntArray, logits: FloatArray, *args: How.args, **keywords: How.kwargs
    ) -> FloatArray:  # [n], [vocab] -> [vocab]
        change = self.change(history, len(logits), *args, **keywords)
        if change is None:
            return logits
        changed = logits.copy()
        change.apply(changed, change.ids)
        return changed
