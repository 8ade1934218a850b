"""Caches with holes and without against a dict of lists, whatever the order, on two arenas."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from gpt2onnx.errors import CacheFullError
from gpt2onnx.runtime.decoder import kv_cache as cache_module
from gpt2onnx.runtime.decoder.arena import (
    HUGE_PAGES,
    Arena,
    Block,
    CacheShape,
    HostArena,
    Positions,
)
from gpt2onnx.runtime.decoder.dense_cache import DenseCache
from gpt2onnx.runtime.decoder.kv_cache import CacheRow, FrozenRow, KVCache
from tests.raising import raises

SHAPE = CacheShape(layers=2, heads=3, head_dim=2, n_positions=23, dtype=np.dtype(np.float32))


@pytest.fixture(autouse=True)
def _small_arenas(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few tokens make an arena grow."""
    monkeypatch.setattr(cache_module, "MIN_CAPACITY", 2)


class ListArena:
    """Rows as lists; it counts the tokens that are copied, and knows nothing of the memory."""

    copied = 0

    def __init__(self, shape: CacheShape, rows: int, capacity: int) -> None:
        self.rows, self.capacity = rows, capacity
        self.cells: list[list[int | None]] = [[None] * capacity for _ in range(rows)]

    def addresses(self, row: int) -> list[int]:
        return [row]

    def copy(self, source: Self, source_row: int, row: int, length: int, start: int = 0) -> None:
        ListArena.copied += length - start
        self.cells[row][start:length] = source.cells[source_row][start:length]

    def move(self, row: int, positions: Positions, start: int) -> None:
        ListArena.copied += len(positions)
        moved = [self.cells[row][position] for position in positions]
        self.cells[row][start : start + len(positions)] = moved

    def swap(self, row: int, other: int, length: int) -> None:
        for position in range(length):
            mine, theirs = self.cells[row], self.cells[other]
            mine[position], theirs[position] = theirs[position], mine[position]

    def read(self, row: int, start: int, into: Block) -> None:
        marks = np.array(self.cells[row][start : start + into.shape[2]])
        into[:] = 100 * marks[:, None] + TAGS

    def write(self, row: int, start: int, blocks: Sequence[Block]) -> None:
        for block in blocks:
            stop = start + block.shape[2]
            self.cells[row][start:stop] = marks_of(block)
            start = stop


def memory(arena: Arena, row: int) -> list[Any]:
    """What lies at the addresses of a row: 2 * layers views [heads, capacity, head_dim]."""
    size = (SHAPE.heads, arena.capacity, SHAPE.head_dim)
    numbers = ctypes.c_float * int(np.prod(size))
    return [
        np.ctypeslib.as_array(numbers.from_address(address)).reshape(size)
        for address in arena.addresses(row)
    ]


# What tells a tensor's and a head's numbers from those of another: [2 * layers, heads, 1, 1].
TAGS = (10 * np.arange(2 * SHAPE.layers)[:, None] + np.arange(SHAPE.heads))[..., None, None]


def write(arena: Arena, row: int, position: int, mark: int) -> None:
    if isinstance(arena, ListArena):
        arena.cells[row][position] = mark
        return
    for tensor, tags in zip(memory(arena, row), TAGS, strict=True):
        tensor[:, position] = 100 * mark + tags[:, 0]


def read(arena: Arena, row: int, length: int) -> list[int | None]:
    if isinstance(arena, ListArena):
        return arena.cells[row][:length]
    return [*marks_of(np.stack(memory(arena, row))[:, :, :length])]


def marks_of(block: Block) -> list[int]:
    """What was written to a block's tokens, the same in every tensor and head."""
    marks = (block - TAGS) / 100
    assert (marks == marks[:1, :1, :, :1]).all()
    return [int(mark) for mark in marks[0, 0, :, 0]]


def block_of(marks: Sequence[int]) -> Block:
    """A block whose tokens have these marks."""
    block = SHAPE.block(len(marks))
    block[:] = 100 * np.array(marks)[:, None] + TAGS
    return block


def held(cache: KVCache, row: CacheRow) -> list[int | None]:
    """The marks of a row's tokens."""
    assert cache.arena is not None
    return read(cache.arena, row.index, row.length)


class CacheMachine(RuleBasedStateMachine):
    """Rows hold marks, each written once; `held` is what each row must hold.

    `outside` are the marks of rows that were taken out.
    """

    arena_class: type[Any] = HostArena
    cache_class: type[KVCache] = KVCache
    rows = Bundle("rows")
    frozen_rows = Bundle("frozen_rows")

    def __init__(self) -> None:
        super().__init__()
        self.cache = self.cache_class(SHAPE, self.arena_class)
        self.held: dict[CacheRow, list[int]] = {}
        self.outside: dict[CacheRow, list[int]] = {}
        self.marks = 0
        self.reserved = False

    @rule(target=rows)
    def new_row(self) -> CacheRow:
        row = self.cache.new_row()
        assert row not in self.held
        self.held[row] = []
        return row

    @rule(row=rows, count=st.integers(1, 12))
    def append(self, row: CacheRow, count: int) -> None:
        if row.length + count > SHAPE.n_positions:
            with raises(CacheFullError, found=row.length + count, expected=SHAPE.n_positions):
                self.cache.make_room(row, count)
            return
        self.cache.make_room(row, count)
        for _ in range(count):
            self.marks += 1
            assert self.cache.arena is not None
            write(self.cache.arena, row.index, row.length, self.marks)
            self.held[row].append(self.marks)
            row.length += 1

    @rule(target=rows, row=rows)
    def fork(self, row: CacheRow) -> CacheRow:
        fork = self.cache.fork(row)
        self.held[fork] = self.held[row].copy()
        return fork

    @rule(source=rows, other=rows, share=st.floats(0, 1))
    def copy(self, source: CacheRow, other: CacheRow, share: float) -> None:
        here, there = self.held[other], self.held[source]
        common = next(
            (n for n, (a, b) in enumerate(zip(here, there, strict=False)) if a != b),
            min(len(here), len(there)),
        )
        self.cache.copy(source, other, round(share * common))
        self.held[other] = there.copy()

    @rule(row=rows, share=st.floats(0, 1))
    def truncate(self, row: CacheRow, share: float) -> None:
        length = round(share * row.length)
        self.cache.truncate(row, length)
        del self.held[row][length:]

    @rule(row=rows, data=st.data())
    def accept(self, row: CacheRow, data: st.DataObject) -> None:
        marks = self.held[row]
        start = data.draw(st.integers(0, len(marks)))
        chosen = data.draw(st.lists(st.booleans(), min_size=len(marks), max_size=len(marks)))
        offsets = np.flatnonzero(chosen[start:])
        self.cache.accept(row, start, offsets)
        self.held[row] = marks[:start] + [marks[start + offset] for offset in offsets]

    @rule(row=consumes(rows))
    def free(self, row: CacheRow) -> None:
        self.cache.free(row)
        del self.held[row]
        self.reserved = self.reserved and bool(self.held)

    @rule(target=frozen_rows, row=consumes(rows))
    def take_out(self, row: CacheRow) -> FrozenRow:
        frozen = self.cache.take_out(row)
        assert frozen.row is row
        self.outside[row] = self.held.pop(row)
        self.reserved = self.reserved and bool(self.held)
        return frozen

    @rule(target=rows, frozen=consumes(frozen_rows))
    def put_back(self, frozen: FrozenRow) -> CacheRow:
        self.cache.put_back(frozen)
        self.held[frozen.row] = self.outside.pop(frozen.row)
        return frozen.row

    @rule(frozen=consumes(frozen_rows))
    def free_outside(self, frozen: FrozenRow) -> None:
        self.cache.free(frozen.row)
        del self.outside[frozen.row]
        with pytest.raises(ValueError, match="freed or put back"):
            self.cache.put_back(frozen)

    @rule(row=rows, share=st.floats(0, 1), other=st.floats(0, 1))
    def read(self, row: CacheRow, share: float, other: float) -> None:
        start, stop = sorted((round(share * row.length), round(other * row.length)))
        assert marks_of(self.cache.read(row, start, stop)) == self.held[row][start:stop]

    @rule(row=rows, share=st.floats(0, 1), sizes=st.lists(st.integers(0, 4), max_size=3))
    def write(self, row: CacheRow, share: float, sizes: list[int]) -> None:
        start, first = round(share * row.length), self.marks + 1
        self.marks += sum(sizes)
        marks = list(range(first, self.marks + 1))
        ends = np.cumsum([0, *sizes]).tolist()
        blocks = [block_of(marks[a:b]) for a, b in pairwise(ends)]
        if start + len(marks) > SHAPE.n_positions:
            with raises(CacheFullError, found=start + len(marks), expected=SHAPE.n_positions):
                self.cache.write(row, start, blocks)
            return
        self.cache.write(row, start, blocks)
        self.held[row][start:] = marks

    @rule(rows=st.integers(0, 9), length=st.integers(0, SHAPE.n_positions))
    def reserve(self, rows: int, length: int) -> None:
        self.cache.reserve(rows, length)
        self.reserved = True
        assert self.cache.arena is not None
        assert self.cache.arena.rows >= rows
        assert self.cache.arena.capacity >= length

    @rule(target=rows)
    def nothing(self) -> Any:
        return multiple()

    @invariant()
    def rows_are_told_in_order(self) -> None:
        assert set(self.cache.rows) == set(self.held)
        assert all(a.index < b.index for a, b in pairwise(self.cache.rows))

    @invariant()
    def contents_are_right(self) -> None:
        for row, marks in self.held.items():
            assert self.cache.arena is not None
            assert row.length == len(marks)
            assert read(self.cache.arena, row.index, row.length) == marks

    @invariant()
    def memory_fits(self) -> None:
        arena = self.cache.arena
        if arena is None:
            assert not self.held
            return
        assert self.held or self.reserved
        assert arena.rows >= len(self.held)
        assert arena.capacity <= SHAPE.n_positions


def fewest_swaps(chosen: Sequence[int], rows: int) -> int:
    """How many of `chosen` lie outside of the best of all places for them."""
    places = [set(range(n, n + len(chosen))) for n in range(rows - len(chosen) + 1)]
    return min(len(set(chosen) - place) for place in places)


class WithHoles(CacheMachine):
    """`places` are where the rows were before the last rule."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[CacheRow, int] = {}

    @invariant()
    def rows_stay_and_the_foremost_hole_is_taken_first(self) -> None:
        places = {row: index for row, index in self.places.items() if row in self.held}
        free = min(set(range(len(places) + 1)) - set(places.values()))
        for row in self.held:
            assert row.index == places.get(row, free)
        self.places = {row: row.index for row in self.held}


class WithHolesInLists(WithHoles):
    arena_class = ListArena


class Dense(CacheMachine):
    cache_class = DenseCache
    cache: DenseCache

    @rule(data=st.data())
    def gather(self, data: st.DataObject) -> None:
        rows = data.draw(st.permutations(list(self.held)))
        chosen = rows[: data.draw(st.integers(0, len(rows)))]
        before = [row.index for row in rows]
        fewest = fewest_swaps([row.index for row in chosen], len(rows))
        self.cache.gather(chosen)
        places = sorted(row.index for row in chosen)
        assert all(b - a == 1 for a, b in pairwise(places))
        moved = sum(row.index != index for row, index in zip(rows, before, strict=True))
        assert moved == 2 * fewest

    @invariant()
    def rows_are_dense(self) -> None:
        assert [row.index for row in self.cache.rows] == list(range(len(self.held)))


class DenseInLists(Dense):
    arena_class = ListArena


for machine in (WithHoles, WithHolesInLists, Dense, DenseInLists):
    machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWithHoles = WithHoles.TestCase
TestWithHolesInLists = WithHolesInLists.TestCase
TestDense = Dense.TestCase
TestDenseInLists = DenseInLists.TestCase


def test_only_what_a_row_holds_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ListArena, "copied", 0)
    cache = DenseCache(SHAPE, ListArena)
    cache.reserve(2, 20)
    first = cache.new_row()
    first.length = 3
    second = cache.fork(first)
    assert ListArena.copied == 3
    second.length = 7
    cache.free(first)  # the second takes its place
    assert ListArena.copied == 3 + 7
    cache.reserve(4, 20)
    assert ListArena.copied == 3 + 7 + 7
    cache.free(second)
    assert ListArena.copied == 3 + 7 + 7


def test_a_hole_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KVCache(SHAPE, ListArena)
    cache.reserve(3, 9)
    arena, rows = cache.arena, [cache.new_row() for _ in range(3)]
    for row in rows:
        row.length = 9
    monkeypatch.setattr(ListArena, "copied", 0)
    cache.free(rows[0])
    cache.free(rows[1])
    assert [row.index for row in cache.rows] == [2]
    assert [cache.new_row().index for _ in range(2)] == [0, 1]
    assert (ListArena.copied, cache.arena) == (0, arena)
    cache.new_row()  # now there is no hole
    assert cache.arena is not arena


def test_what_is_reserved_beside_holes_is_there() -> None:
    """As decoders reserve: so many more than are in use."""
    cache = KVCache(SHAPE)
    rows = [cache.new_row() for _ in range(4)]
    cache.free(rows[0])
    cache.free(rows[2])
    cache.reserve(len(cache.rows) + 5, 9)
    arena = cache.arena
    assert [cache.new_row().index for _ in range(5)] == [0, 2, 4, 5, 6]
    assert cache.arena is arena


def test_a_copy_leaves_out_what_both_rows_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KVCache(SHAPE, ListArena)
    source = cache.new_row()
    cache.make_room(source, 9)
    source.length = 5
    target = cache.fork(source)
    source.length, target.length = 9, 6
    monkeypatch.setattr(ListArena, "copied", 0)
    cache.copy(source, target, 5)
    assert (ListArena.copied, target.length) == (9 - 5, 9)


@pytest.mark.parametrize("start", [-1, 4])
def test_a_copy_from_beyond_what_both_rows_hold(start: int) -> None:
    cache = KVCache(SHAPE)
    source, target = cache.new_row(), cache.new_row()
    source.length, target.length = 5, 3
    with pytest.raises(ValueError, match=rf"start={start}: expected 0 to 3"):
        cache.copy(source, target, start)


def test_keeping_moves_only_what_has_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ListArena, "copied", 0)
    cache = KVCache(SHAPE, ListArena)
    row = cache.new_row()
    cache.make_room(row, 12)
    row.length = 12
    cache.accept(row, 4, np.array([0, 1, 2]))
    assert (ListArena.copied, row.length) == (0, 7)
    cache.accept(row, 2, np.array([0, 3, 4]))
    assert (ListArena.copied, row.length) == (2, 5)


@pytest.mark.parametrize(
    ("start", "offsets"), [(0, [1, 1]), (0, [2, 1]), (1, [-1, 0]), (2, [0, 3]), (-1, [0]), (6, [])]
)
def test_keeping_what_isnt_there_in_order(start: int, offsets: list[int]) -> None:
    cache = KVCache(SHAPE)
    row = cache.new_row()
    row.length = 5
    with pytest.raises(ValueError, match=f"start={start}, offsets=.* expected ascending ones"):
        cache.accept(row, start, np.array(offsets, np.int64))
    assert row.length == 5


def test_what_is_reserved_never_moves() -> None:
    cache = KVCache(SHAPE)
    cache.reserve(3, 20)
    arena = cache.arena
    rows = [cache.new_row() for _ in range(3)]
    for row in rows:
        cache.make_room(row, 20)
    assert cache.arena is arena


def test_growth_doubles() -> None:
    sizes = []

    class Recording(ListArena):
        def __init__(self, shape: CacheShape, rows: int, capacity: int) -> None:
            super().__init__(shape, rows, capacity)
            sizes.append((rows, capacity))

    cache = KVCache(SHAPE, Recording)
    rows = [cache.new_row() for _ in range(5)]
    cache.make_room(rows[0], 3)
    cache.make_room(rows[0], 5)
    cache.make_room(rows[0], SHAPE.n_positions)
    assert sizes == [(1, 2), (2, 2), (4, 2), (8, 2), (8, 4), (8, 8), (8, SHAPE.n_positions)]


def test_an_arena_never_exceeds_the_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MIN_CAPACITY", 128)
    cache = KVCache(SHAPE)
    cache.new_row()
    assert cache.arena is not None
    assert cache.arena.capacity == SHAPE.n_positions


def test_a_freed_row_is_refused() -> None:
    cache = DenseCache(SHAPE)
    kept, freed = cache.new_row(), cache.new_row()
    cache.free(freed)
    for use in (
        lambda: cache.free(freed),
        lambda: cache.fork(freed),
        lambda: cache.copy(kept, freed, 0),
        lambda: cache.copy(freed, kept, 0),
        lambda: cache.truncate(freed, 0),
        lambda: cache.accept(freed, 0, np.arange(0)),
        lambda: cache.make_room(freed, 1),
        lambda: cache.take_out(freed),
        lambda: cache.read(freed, 0, 0),
        lambda: cache.write(freed, 0, []),
        lambda: cache.gather([freed]),
    ):
        with pytest.raises(ValueError, match="the row was freed"):
            use()
    assert cache.rows == [kept]


def test_a_row_outside_is_good_for_nothing_but_to_come_back_or_be_freed() -> None:
    cache = KVCache(SHAPE)
    first, second = cache.new_row(), cache.new_row()
    cache.write(first, 0, [block_of([1, 2, 3])])
    cache.write(second, 0, [block_of([4])])
    frozen = cache.take_out(first)
    for use in (
        lambda: cache.fork(first),
        lambda: cache.truncate(first, 0),
        lambda: cache.read(first, 0, 1),
        lambda: cache.take_out(first),
    ):
        with pytest.raises(ValueError, match="the row was taken out: put it back first"):
            use()
    cache.put_back(frozen)
    assert (held(cache, first), held(cache, second)) == ([1, 2, 3], [4])
    with pytest.raises(ValueError, match="freed or put back: expected one that is taken out"):
        cache.put_back(frozen)


def test_the_last_row_taken_out_leaves_no_arena() -> None:
    cache = KVCache(SHAPE)
    row = cache.new_row()
    cache.write(row, 0, [block_of([1, 2])])
    frozen = cache.take_out(row)
    assert (cache.rows, cache.arena) == ([], None)
    cache.put_back(frozen)
    assert held(cache, row) == [1, 2]


def test_what_wasnt_written_for_lack_of_memory_leaves_the_row_as_it_was() -> None:
    cache = KVCache(SHAPE)
    row = cache.new_row()
    cache.write(row, 0, [block_of([1, 2])])
    with raises(CacheFullError, found=1 + SHAPE.n_positions, expected=SHAPE.n_positions):
        cache.write(row, 1, [block_of(range(SHAPE.n_positions))])
    assert held(cache, row) == [1, 2]


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (2, 1), (0, 4)])
def test_reading_what_isnt_there(start: int, stop: int) -> None:
    cache = KVCache(SHAPE)
    row = cache.new_row()
    row.length = 3
    with pytest.raises(ValueError, match=f"start={start}, stop={stop}: expected a part of the row"):
        cache.read(row, start, stop)


@pytest.mark.parametrize(
    "block",
    [
        np.zeros((4, 3, 1, 2), np.float16),
        np.zeros((4, 3, 1, 3), np.float32),
        np.zeros((3, 1, 2), np.float32),
        np.zeros((4, 3, 2, 2), np.float32)[:, :, :1],
    ],
)
def test_a_block_of_another_shape(block: Block) -> None:
    cache = KVCache(SHAPE)
    row = cache.new_row()
    with pytest.raises(ValueError, match=r"expected \[4, 3, \d, 2\] of float32, contiguous"):
        cache.write(row, 0, [block])


@pytest.mark.parametrize("lengths", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
def test_gathering_takes_the_foremost_of_equal_places(lengths: list[int]) -> None:
    cache = DenseCache(SHAPE)
    rows = [cache.new_row() for _ in range(6)]
    for mark, row in enumerate(rows):
        cache.write(row, 0, [block_of([mark] * lengths[mark])])
    cache.gather([rows[5], rows[0]])
    assert [row.index for row in rows] == [0, 5, 2, 3, 4, 1]
    cache.gather([rows[3], rows[2]])  # which are neighbours already
    assert [row.index for row in rows] == [0, 5, 2, 3, 4, 1]
    expected = [[mark] * length for mark, length in enumerate(lengths)]
    assert [held(cache, row) for row in rows] == expected


def test_gathering_a_row_twice() -> None:
    cache = DenseCache(SHAPE)
    row = cache.new_row()
    with pytest.raises(ValueError, match="given twice"):
        cache.gather([row, row])


@pytest.mark.parametrize("length", [-1, 1])
def test_truncating_to_more_than_a_row_holds(length: int) -> None:
    cache = KVCache(SHAPE)
    row = cache.new_row()
    with pytest.raises(ValueError, match=rf"length={length}: expected 0 to 0"):
        cache.truncate(row, length)


def test_a_row_is_contiguous_memory() -> None:
    arena = HostArena(SHAPE, rows=3, capacity=5)
    row_bytes = SHAPE.heads * 5 * SHAPE.head_dim * 4
    first, second = arena.addresses(0), arena.addresses(1)
    assert len(first) == 2 * SHAPE.layers
    assert {b - a for a, b in zip(first, second, strict=True)} == {row_bytes}


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="the system doesn't tell")
@pytest.mark.parametrize("rows", [1, 16])
def test_pages_are_resident_when_a_token_is_in_them(rows: int) -> None:
    """Whatever the C library has in store, which it would clear: here 64 MB."""
    kept = [np.ones(1 << 16) for _ in range(128)]
    del kept[:-1]
    shape = CacheShape(1, 2, 64, 1024, np.dtype(np.float32))
    arena = HostArena(shape, rows, 1024)
    key, value = arena.tensors
    value[-1, 0, 0] = 1
    found = resident_pages(value)
    assert found == 1 if value.nbytes < HUGE_PAGES else 1 <= found < value.nbytes // mmap.PAGESIZE
    if value.nbytes < HUGE_PAGES:  # a huge page may reach into what lies beside it
        assert resident_pages(key) == 0
    assert (key.sum(), value.sum()) == (0, shape.head_dim)


def resident_pages(tensor: np.ndarray) -> int:
    """How many of its pages are in memory: the highest bit of each page's number.

    https://docs.kernel.org/admin-guide/mm/pagemap.html
    """
    begin = tensor.ctypes.data
    first, last = begin // mmap.PAGESIZE, (begin + tensor.nbytes - 1) // mmap.PAGESIZE
    with Path("/proc/self/pagemap").open("rb") as file:
        file.seek(first * 8)
        entries = np.frombuffer(file.read((last + 1 - first) * 8), np.uint64)
    return int(np.count_nonzero(entries >> np.uint64(63)))
