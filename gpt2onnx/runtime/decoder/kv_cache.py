"""The KV cache: rows of one arena.

An arena holds, for every layer, keys and values as [rows, heads, capacity, head_dim]. A sequence
lives in a row, which is contiguous memory: a graph can be bound to one row, to fill it alone, or to
rows 0 … n, to advance them together, each at its own length. Rows in use are kept dense: a freed
row is filled by the last one, so callers hold handles, not numbers.

Knows memory; knows nothing of graphs, tokens or what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import CacheFullError, OutOfMemoryError

Positions = NDArray[np.int64]

MIN_CAPACITY = 128
FREED = -1


@dataclass(frozen=True)
class CacheShape:
    """What a model's cache looks like."""

    layers: int
    heads: int
    head_dim: int
    n_positions: int
    dtype: np.dtype[Any]


@dataclass(eq=False, slots=True)
class CacheRow:
    """A handle: the row's number now (FREED once it was given back), and the tokens it holds."""

    index: int
    length: int = 0


class Arena(Protocol):
    """Keys and values of all layers: 2 * layers tensors [rows, heads, capacity, head_dim]."""

    rows: int
    capacity: int
    device: tuple[str, int]  # type and number, as ONNX Runtime's bindings name them

    def addresses(self, row: int) -> Sequence[int]:
        """Where `row` begins in each tensor: keys and values in turn, layer by layer."""

    def copy(self, source: Self, source_row: int, row: int, length: int, start: int = 0) -> None:
        """Copy tokens `start` to `length` of another arena's row, or of one of its own."""

    def move(self, row: int, positions: Positions, start: int) -> None:
        """Move a row's tokens at `positions` [n], ascending, to `start` and behind it."""


class HostArena:
    """An arena in main memory. The system commits its pages when they are first written to."""

    device = ("cpu", 0)

    def __init__(self, shape: CacheShape, rows: int, capacity: int) -> None:
        self.rows, self.capacity = rows, capacity
        size = (rows, shape.heads, capacity, shape.head_dim)
        try:
            self.tensors: list[NDArray[Any]] = [
                np.zeros(size, shape.dtype) for _ in range(2 * shape.layers)
            ]
        except (MemoryError, ValueError) as error:  # the second: beyond what can be addressed
            raise OutOfMemoryError(
                f"a KV cache of {rows:,} rows of {capacity:,} tokens: {error}; take fewer "
                "sequences at once, or shorter ones"
            ) from error

    def addresses(self, row: int) -> list[int]:
        return [tensor.ctypes.data + row * tensor.strides[0] for tensor in self.tensors]

    def copy(self, source: Self, source_row: int, row: int, length: int, start: int = 0) -> None:
        for mine, theirs in zip(self.tensors, source.tensors, strict=True):
            mine[row, :, start:length] = theirs[source_row, :, start:length]

    def move(self, row: int, positions: Positions, start: int) -> None:
        for tensor in self.tensors:
            tensor[row, :, start : start + len(positions)] = tensor[row][:, positions]


class ArenaFactory(Protocol):
    """Where a cache gets its memory."""

    def __call__(self, shape: CacheShape, rows: int, capacity: int) -> Arena:
        """An arena of that many rows of that many tokens."""


class KVCache:
    """Rows of an arena that grows as they need, and is given back when the last one is freed."""

    def __init__(self, shape: CacheShape, allocate: ArenaFactory = HostArena) -> None:
        self.shape = shape
        self.arena: Arena | None = None
        self.rows: list[CacheRow] = []
        self._allocate = allocate

    def new_row(self) -> CacheRow:
        """An empty row."""
        self.reserve(len(self.rows) + 1, 1)
        row = CacheRow(len(self.rows))
        self.rows.append(row)
        return row

    def fork(self, row: CacheRow) -> CacheRow:
        """A new row with a copy of what `row` holds."""
        _require_in_use(row)
        copy = self.new_row()
        self._copy(row.index, copy.index, row.length)
        copy.length = row.length
        return copy

    def copy(self, source: CacheRow, target: CacheRow, start: int) -> None:
        """Make `target` hold what `source` holds; they have the first `start` tokens in common."""
        _require_in_use(source)
        _require_in_use(target)
        shared = min(source.length, target.length)
        if not 0 <= start <= shared:
            raise ValueError(f"start={start}: expected 0 to {shared}, what both rows hold")
        self._copy(source.index, target.index, source.length, start)
        target.length = source.length

    def truncate(self, row: CacheRow, length: int) -> None:
        """Keep the first `length` tokens; what lies behind them is overwritten by what comes."""
        _require_in_use(row)
        if not 0 <= length <= row.length:
            raise ValueError(f"length={length}: expected 0 to {row.length}, what the row holds")
        row.length = length

    def keep(self, row: CacheRow, start: int, offsets: Positions) -> None:
        """Of the tokens from `start` on keep those at `offsets` [n], ascending, and no others."""
        _require_in_use(row)
        bounds = [-1, *offsets.tolist(), row.length - start]
        if start < 0 or not all(a < b for a, b in pairwise(bounds)):
            raise ValueError(
                f"start={start}, offsets={offsets}: expected ascending ones of the row's "
                f"{row.length} tokens"
            )
        row.length = start + len(offsets)
        moved = offsets != np.arange(len(offsets))
        if moved.any() and self.arena is not None:
            first = int(np.argmax(moved))
            self.arena.move(row.index, start + offsets[first:], start + first)

    def free(self, row: CacheRow) -> None:
        """Give a row back. The last row takes its place."""
        _require_in_use(row)
        last = self.rows.pop()
        if last is not row:
            self._copy(last.index, row.index, last.length)
            last.index = row.index
            self.rows[last.index] = last
        row.index = FREED
        if not self.rows:
            self.arena = None

    def make_room(self, row: CacheRow, tokens: int) -> None:
        """Let `row` take that many more tokens. Raises CacheFullError past n_positions."""
        _require_in_use(row)
        needed = row.length + tokens
        if needed > self.shape.n_positions:
            raise CacheFullError(
                f"{row.length} tokens and {tokens} more exceed the model's "
                f"{self.shape.n_positions} positions"
            )
        self.reserve(len(self.rows), needed)

    def reserve(self, rows: int, length: int) -> None:
        """Grow the arena, at least doubling what is too small, and move the rows over."""
        old = self.arena
        if old is not None and old.rows >= rows and old.capacity >= length:
            return
        capacity = max(length, MIN_CAPACITY)
        if old is not None:
            rows = old.rows if old.rows >= rows else max(rows, 2 * old.rows)
            capacity = old.capacity if old.capacity >= length else max(length, 2 * old.capacity)
        self.arena = self._allocate(self.shape, rows, min(capacity, self.shape.n_positions))
        if old is not None:
            for row in self.rows:
                self.arena.copy(old, row.index, row.index, row.length)

    def _copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        assert self.arena is not None  # rows exist only in an arena
        self.arena.copy(self.arena, source, target, length, start)


def _require_in_use(row: CacheRow) -> None:
    """A freed handle would read and write another sequence's memory."""
    if row.index == FREED:
        raise ValueError("the row was freed: expected one in use")
