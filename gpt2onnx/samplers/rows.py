"""Candidates of several rows in one array, so that a warper's calls of numpy are shared.

Each row keeps the candidates, and has every number to the last bit, that it has alone. Knows
nothing of what narrows them, or of whose rows they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt2onnx.samplers.candidates import BoolArray, Candidates, FloatArray, IntArray, One
from gpt2onnx.samplers.cumulative import BLOCK, Side, reaching_each, total_of_each

# Candidates of a row: sums of more are rounded otherwise.
MOST = BLOCK


class Rows(Candidates):
    """Ids and logits [rows, n]. What a row doesn't have stands at -inf, which counts for nothing.

    Where a set has a number, such as its largest logit, rows have one each: [rows, 1].
    """

    __slots__ = ()

    @classmethod
    def together(cls, rows: Sequence[Candidates]) -> Rows:  # of each: [up to MOST]
        """Several sets, in that order."""
        lengths = np.array([len(row.ids) for row in rows])
        filled = np.arange(lengths.max()) < lengths[:, None]
        ids, logits = np.zeros(filled.shape, np.int64), np.full(filled.shape, -np.inf, np.float32)
        ids[filled] = np.concatenate([row.ids for row in rows])
        logits[filled] = np.concatenate([row.logits for row in rows])
        return cls(ids, logits)

    def row(self, number: int) -> Candidates:  # -> [kept]
        """One of the sets."""
        possible = self.logits[number] > -np.inf
        return Candidates(self.ids[number, possible], self.logits[number, possible])

    def where(self, keep: BoolArray) -> Rows:  # [rows, n] -> [rows, up to n]
        """The candidates at which `keep` is true; rows get shorter where all keep as many."""
        counts = np.count_nonzero(keep, axis=1)
        least, most = counts.min(), counts.max()
        if least == keep.shape[1]:
            return self
        if least == most:
            shape = len(keep), most
            return Rows(self.ids[keep].reshape(shape), self.logits[keep].reshape(shape))
        return Rows(self.ids, np.where(keep, self.logits, np.float32(-np.inf)))

    def take(self, values: Any, places: IntArray) -> Any:  # [rows, n], [rows, k] -> [rows, k]
        return np.take_along_axis(values, places, axis=1)

    def sum(self, values: FloatArray) -> FloatArray:  # [rows, n] -> [rows, 1]
        return total_of_each(values)

    def count(self, mask: BoolArray) -> IntArray:  # [rows, n] -> [rows, 1]
        return np.count_nonzero(mask, axis=1, keepdims=True)

    def reaching(self, weights: FloatArray, share: One, side: Side) -> IntArray:  # -> [rows, 1]
        return reaching_each(weights, share, side)

    @property
    def most(self) -> FloatArray:  # [rows, 1]
        if self._most is None:
            self._most = self.logits.max(axis=1, keepdims=True)
        most: FloatArray = self._most
        return most

    def logprobs_at(self, places: IntArray) -> FloatArray:  # [rows, 1] -> [rows, 1]
        """Of each row the one at its place."""
        logprobs: FloatArray = self.take(self.logits, places) - self.most - np.log(self.total)
        return logprobs
