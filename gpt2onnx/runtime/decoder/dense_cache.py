"""A KV cache without holes, for graphs that are bound to neighbouring rows.

Knows which row is where; knows nothing of graphs.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpt2onnx.runtime.decoder.kv_cache import CacheRow, KVCache, require_in_use


class DenseCache(KVCache):
    """Rows 0 … n without holes: a graph can be bound to some neighbours, to advance them together.

    The last row takes a freed one's place.
    """

    def gather(self, rows: Sequence[CacheRow]) -> None:
        """Make rows neighbours in the arena, in any order, by the fewest swaps.

        Where several places take as few, it is the foremost.
        """
        for row in rows:
            require_in_use(row)
        chosen = {row.index for row in rows}
        if len(chosen) < len(rows):
            raise ValueError("a row was given twice: expected different ones")
        if not chosen or max(chosen) - min(chosen) < len(chosen):
            return
        places = [
            range(first, first + len(chosen)) for first in range(len(self._rows) - len(chosen) + 1)
        ]
        place = max(places, key=lambda place: len(chosen.intersection(place)))
        outside, others = sorted(chosen.difference(place)), set(place) - chosen
        for index, other in zip(outside, sorted(others), strict=True):
            self._swap(self._rows[index], self._rows[other])

    def _vacate(self, row: CacheRow) -> None:
        require_in_use(row)
        last = self._rows[len(self._rows) - 1]
        if last is not row:
            self._copy(last.index, row.index, last.length)
            self._renumber(row, last)
        super()._vacate(row)

    def _swap(self, row: CacheRow, other: CacheRow) -> None:
        """Let two rows change places."""
        self._in_use.swap(row.index, other.index, max(row.length, other.length))
        self._renumber(row, other)

    def _renumber(self, row: CacheRow, other: CacheRow) -> None:
        """Let two rows change their numbers."""
        row.index, other.index = other.index, row.index
        self._rows[row.index], self._rows[other.index] = row, other
