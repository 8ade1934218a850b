"""A chain of penalties on a row of logits, and which of them it may have changed.

Knows nothing of what any penalty does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from gpt2onnx.samplers.candidates import FloatArray, IntArray
from gpt2onnx.samplers.changes import Change, SparsePenalty
from gpt2onnx.samplers.penalties import Penalty


class Penalized:
    """A row after penalties, worked out where it is asked for.

    `given` is the row before them. Behind it come the `changes` of penalties that change few
    logits; those that may change any put another row in its place.
    """

    __slots__ = ("_logits", "_row", "changes", "given")

    def __init__(self, given: FloatArray) -> None:  # [vocab]
        self.given = self._row = given
        self._logits: FloatArray | None = given
        self.changes: list[Change] = []

    @property
    def logits(self) -> FloatArray:  # [vocab]
        """The row, the very same one where penalties changed nothing."""
        if self._logits is None:
            self._logits = self._row.copy()
            for change in self.changes:
                change.apply(self._logits, change.ids)
        return self._logits

    @property
    def unchanged(self) -> bool:
        """Whether penalties changed nothing."""
        return self._row is self.given and not self.changes

    @property
    def touched(self) -> list[IntArray] | None:  # of each penalty: [k]
        """No other logits than those of these tokens differ; None is for any token.

        They may come in any order and more than once.
        """
        return [change.ids for change in self.changes] if self._row is self.given else None

    def change(self, change: Change) -> None:
        """Take in what a penalty does to a few."""
        self.changes.append(change)
        self._logits = None

    def replace(self, row: FloatArray) -> None:  # [vocab]
        """Take in what a penalty made of `logits`."""
        if row is not self.logits:
            self._row = self._logits = row
            self.changes = []


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
        penalized = Penalized(logits)
        for step, change_of in self._chain:
            if not change_of:
                penalized.replace(step(history, penalized.logits))
            elif change := change_of(history, len(logits)):
                penalized.change(change)
        return penalized


def _change_of(step: Penalty) -> Callable[[IntArray, int], Change | None] | None:
    """What tells the change of a sparse penalty with its arguments; None for any other."""
    if isinstance(step, partial) and isinstance(step.func, SparsePenalty):
        return partial(step.func.change, *step.args, **step.keywords)
    return None
