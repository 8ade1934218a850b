"""Arenas: the memory of a KV cache, for every layer keys and values of all its rows.

A tensor of an arena is [rows, heads, capacity, head_dim], so a row is contiguous memory, which a
graph can be bound to. Outside the arena keys and values are blocks, which a row gives and takes bit
for bit. Knows memory; knows nothing of which rows are in use.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import OutOfMemoryError

# Bytes from which a tensor has pages of its own, as the C library's default, and huge ones, as
# numpy's (https://numpy.org/doc/stable/reference/global_state.html).
OWN_PAGES, HUGE_PAGES = 1 << 17, 1 << 22
Positions = NDArray[np.int64]
# Keys and values of some tokens, in main memory: [2 * layers, heads, tokens, head_dim], contiguous.
Block = NDArray[Any]


@dataclass(frozen=True)
class CacheShape:
    """What a model's cache looks like."""

    layers: int
    heads: int
    head_dim: int
    n_positions: int
    dtype: np.dtype[Any]

    @property
    def token_bytes(self) -> int:
        """What a token takes, in the arena or in a block."""
        return 2 * self.layers * self.heads * self.head_dim * self.dtype.itemsize

    def block(self, tokens: int) -> Block:
        """A new block, not yet filled. Raises OutOfMemoryError."""
        try:
            return np.empty((2 * self.layers, self.heads, tokens, self.head_dim), self.dtype)
        except MemoryError as error:
            raise OutOfMemoryError(f"a copy of {tokens:,} tokens of a KV cache: {error}") from error

    def require(self, block: Block) -> None:
        """Raise ValueError for what is no block of this shape."""
        like = self.block(block.shape[2] if block.ndim == 4 else 0)
        if (block.shape, block.strides, block.dtype) != (like.shape, like.strides, like.dtype):
            raise ValueError(
                f"a block {list(block.shape)} of {block.dtype}: expected {list(like.shape)} of "
                f"{like.dtype}, contiguous"
            )


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

    def swap(self, row: int, other: int, length: int) -> None:
        """Let two rows change their first `length` tokens."""

    def read(self, row: int, start: int, into: Block) -> None:
        """Fill a block with a row's tokens from `start` on."""

    def write(self, row: int, start: int, blocks: Sequence[Block]) -> None:
        """Write the tokens of blocks, one behind the other, to a row's from `start` on."""


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As np.zeros, in pages of their own where they are many.

    The C library takes memory that was freed before, as what reading a tokenizer leaves, and clears
    all of it: rows would be resident whole before a token is in them, and after the last is freed.
    Raises OSError, OverflowError and ValueError as well.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < OWN_PAGES or not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return np.zeros(shape, dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE_PAGES and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)


class HostArena:
    """An arena in main memory. The system commits its pages when they are first written to."""

    device = ("cpu", 0)

    def __init__(self, shape: CacheShape, rows: int, capacity: int) -> None:
        self.rows, self.capacity = rows, capacity
        size = (rows, shape.heads, capacity, shape.head_dim)
        try:
            self.tensors = [_zeros(size, shape.dtype) for _ in range(2 * shape.layers)]
        except (MemoryError, OSError, OverflowError, ValueError) as error:
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

    def swap(self, row: int, other: int, length: int) -> None:
        for tensor in self.tensors:
            kept = tensor[row, :, :length].copy()
            tensor[row, :, :length] = tensor[other, :, :length]
            tensor[other, :, :length] = kept

    def read(self, row: int, start: int, into: Block) -> None:
        for part, tensor in zip(into, self.tensors, strict=True):
            part[:] = tensor[row, :, start : start + into.shape[2]]

    def write(self, row: int, start: int, blocks: Sequence[Block]) -> None:
        for block in blocks:
            stop = start + block.shape[2]
            for part, tensor in zip(block, self.tensors, strict=True):
                tensor[row, :, start:stop] = part
            start = stop


class ArenaFactory(Protocol):
    """Where a cache gets its memory."""

    def __call__(self, shape: CacheShape, rows: int, capacity: int) -> Arena:
        """An arena of that many rows of that many tokens."""
