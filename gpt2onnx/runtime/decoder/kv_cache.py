"""The KV cache: rows of one arena, and rows that were taken out of it.

A sequence lives in a row of its own length. Callers hold handles, not numbers: a row that was taken
out comes back at another place, and a DenseCache moves rows as well.

Knows memory; knows nothing of graphs, tokens or what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Protocol

import numpy as np

from gpt2onnx.errors import CacheFullError, OutOfMemoryError
from gpt2onnx.runtime.decoder.arena import (
    Arena,
    ArenaFactory,
    Block,
    CacheShape,
    HostArena,
    Positions,
)
from gpt2onnx.runtime.decoder.protocol import require_room

MIN_CAPACITY = 128
FREED, TAKEN_OUT = -1, -2


@dataclass(eq=False, slots=True)
class CacheRow:
    """A handle: the row's number now, and the tokens it holds.

    The number is FREED once the row was given back, TAKEN_OUT as long as it is outside the arena.
    """

    index: int
    length: int = 0


@dataclass(frozen=True, eq=False)
class FrozenRow:
    """A row outside the arena: its handle, and what it held."""

    row: CacheRow
    block: Block


class Blocks(Protocol):
    """A cache whose rows' tokens are read and written in blocks: KVCache's are."""

    @property
    def shape(self) -> CacheShape: ...
    def read(self, row: CacheRow, start: int, stop: int) -> Block: ...
    def write(self, row: CacheRow, start: int, blocks: Sequence[Block]) -> None: ...


class KVCache:
    """Rows of an arena that grows as they need, and is given back when the last one is freed.

    A freed row leaves a hole, which is taken again before the arena grows.
    """

    def __init__(self, shape: CacheShape, allocate: ArenaFactory = HostArena) -> None:
        self.shape = shape
        self.arena: Arena | None = None
        self._rows: dict[int, CacheRow] = {}  # those in use, by their number
        self._allocate = allocate

    @property
    def rows(self) -> list[CacheRow]:
        """The rows in use, in the arena's order."""
        return [self._rows[index] for index in sorted(self._rows)]

    def new_row(self) -> CacheRow:
        """An empty row."""
        row = CacheRow(FREED)
        self._settle(row)
        return row

    def fork(self, row: CacheRow) -> CacheRow:
        """A new row with a copy of what `row` holds."""
        require_in_use(row)
        copy = self.new_row()
        self._copy(row.index, copy.index, row.length)
        copy.length = row.length
        return copy

    def copy(self, source: CacheRow, target: CacheRow, start: int) -> None:
        """Make `target` hold what `source` holds; they have the first `start` tokens in common."""
        require_in_use(source)
        require_in_use(target)
        shared = min(source.length, target.length)
        if not 0 <= start <= shared:
            raise ValueError(f"start={start}: expected 0 to {shared}, what both rows hold")
        self._copy(source.index, target.index, source.length, start)
        target.length = source.length

    def truncate(self, row: CacheRow, length: int) -> None:
        """Keep the first `length` tokens; what lies behind them is overwritten by what comes."""
        require_in_use(row)
        if not 0 <= length <= row.length:
            raise ValueError(f"length={length}: expected 0 to {row.length}, what the row holds")
        row.length = length

    def accept(self, row: CacheRow, start: int, offsets: Positions) -> None:
        """Of the tokens from `start` on keep those at `offsets` [n], ascending, and no others."""
        require_in_use(row)
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
        """Give a row back, be it taken out or not."""
        if row.index != TAKEN_OUT:
            self._vacate(row)
        row.index = FREED

    def take_out(self, row: CacheRow) -> FrozenRow:
        """Copy what a row holds out of the arena; its place is free until `put_back`.

        Until then its handle is good for `free` alone.
        """
        frozen = FrozenRow(row, self.read(row, 0, row.length))
        self._vacate(row)
        row.index = TAKEN_OUT
        return frozen

    def put_back(self, frozen: FrozenRow) -> None:
        """Give a row that was taken out a place again: it holds what it held, bit for bit."""
        row = frozen.row
        if row.index != TAKEN_OUT:
            raise ValueError("the row was freed or put back: expected one that is taken out")
        self._settle(row)
        self._in_use.write(row.index, 0, [frozen.block])

    def read(self, row: CacheRow, start: int, stop: int) -> Block:
        """A copy of a row's tokens from `start` to `stop`."""
        require_in_use(row)
        if not 0 <= start <= stop <= row.length:
            raise ValueError(
                f"start={start}, stop={stop}: expected a part of the row's {row.length} tokens"
            )
        block = self.shape.block(stop - start)
        if block.size:
            self._in_use.read(row.index, start, block)
        return block

    def write(self, row: CacheRow, start: int, blocks: Sequence[Block]) -> None:
        """Let a row hold its first `start` tokens, then those of `blocks`, and no others.

        Raises CacheFullError past n_positions.
        """
        for block in blocks:
            self.shape.require(block)
        length = row.length
        self.truncate(row, start)
        try:
            self.make_room(row, sum(block.shape[2] for block in blocks))
        except (CacheFullError, OutOfMemoryError):
            row.length = length
            raise
        self._in_use.write(row.index, start, blocks)
        row.length += sum(block.shape[2] for block in blocks)

    def make_room(self, row: CacheRow, tokens: int) -> None:
        """Let `row` take that many more tokens. Raises CacheFullError past n_positions."""
        require_in_use(row)
        require_room(row.length, tokens, self.shape.n_positions)
        self.reserve(len(self._rows), row.length + tokens)

    def reserve(self, rows: int, length: int) -> None:
        """Grow the arena, at least doubling what is too small, and move the rows over.

        So many rows, those in use among them, then have room without another growth.
        """
        old = self.arena
        if old is not None and old.rows >= rows and old.capacity >= length:
            return
        capacity = max(length, MIN_CAPACITY)
        if old is not None:
            rows = old.rows if old.rows >= rows else max(rows, 2 * old.rows)
            capacity = old.capacity if old.capacity >= length else max(length, 2 * old.capacity)
        self.arena = self._allocate(self.shape, rows, min(capacity, self.shape.n_positions))
        if old is not None:
            for row in self._rows.values():
                self.arena.copy(old, row.index, row.index, row.length)

    @property
    def _in_use(self) -> Arena:
        assert self.arena is not None  # rows exist only in an arena
        return self.arena

    def _copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        self._in_use.copy(self._in_use, source, target, length, start)

    def _settle(self, row: CacheRow) -> None:
        """Give a row the foremost place that is free, with room for what it holds."""
        index = next(index for index in count() if index not in self._rows)
        self.reserve(index + 1, max(1, row.length))
        row.index = index
        self._rows[index] = row

    def _vacate(self, row: CacheRow) -> None:
        """Let a row's place be free."""
        require_in_use(row)
        del self._rows[row.index]
        if not self._rows:
            self.arena = None


def require_in_use(row: CacheRow) -> None:
    """Another handle would read and write another sequence's memory."""
    if row.index < 0:
        state = "taken out: put it back first" if row.index == TAKEN_OUT else "freed"
        raise ValueError(f"the row was {state}: expected one in use")
