"""Penalties that change few of a row's logits: which, and to what.

A chain of such penalties copies a row once, and tells which tokens to look at afterwards. Knows
nothing of what any penalty does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Concatenate, Generic, NamedTuple, ParamSpec

from gpt2onnx.samplers.candidates import FloatArray, IntArray

How = ParamSpec("How")


class Change(NamedTuple):
    """The logits that some tokens get; of a token's several the last one counts."""

    ids: IntArray  # [k]
    logits: FloatArray | float  # [k], or the same for all


class SparsePenalty(Generic[How]):
    """A penalty that is told by the change it makes, or None where it makes none.

    Called, it is a penalty like any other: it gives the row that comes of that.
    """

    def __init__(
        self, change: Callable[Concatenate[IntArray, FloatArray, How], Change | None]
    ) -> None:
        self.change = change
        update_wrapper(self, change)

    def __call__(
        self, history: IntArray, logits: FloatArray, *args: How.args, **keywords: How.kwargs
    ) -> FloatArray:  # [n], [vocab] -> [vocab]
        change = self.change(history, logits, *args, **keywords)
        if change is None:
            return logits
        changed = logits.copy()
        changed[change.ids] = change.logits
        return changed
