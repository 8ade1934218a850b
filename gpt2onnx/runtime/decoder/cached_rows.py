"""What decoders with a KV cache of their own do with its rows, each in its turn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gpt2onnx.runtime.decoder.arena import Block
from gpt2onnx.runtime.decoder.kv_cache import CacheRow, FrozenRow, KVCache
from gpt2onnx.runtime.decoder.protocol import GreedyWriter, Ids
from gpt2onnx.runtime.machine.turns import Turns, in_turn


class CachedRows:
    """Rows of a KV cache. Threads may share it, each with rows of its own."""

    exact_steps = False
    writer: GreedyWriter[CacheRow] | None = None

    def __init__(self, cache: KVCache) -> None:
        self.turns = Turns()
        self.cache = cache

    @in_turn
    def new_row(self) -> CacheRow:
        return self.cache.new_row()

    @in_turn
    def fork(self, row: CacheRow) -> CacheRow:
        return self.cache.fork(row)

    @in_turn
    def copy(self, source: CacheRow, target: CacheRow, start: int) -> None:
        self.cache.copy(source, target, start)

    @in_turn
    def truncate(self, row: CacheRow, length: int) -> None:
        self.cache.truncate(row, length)

    def free(self, row: CacheRow) -> None:
        self.turns.soon(partial(self.cache.free, row))

    @in_turn
    def reserve(self, rows: int, length: int) -> None:
        self.cache.reserve(len(self.cache.rows) + rows, length)

    @in_turn
    def accept(self, row: CacheRow, start: int, offsets: Ids) -> None:
        self.cache.accept(row, start, offsets)

    @in_turn
    def take_out(self, row: CacheRow) -> FrozenRow:
        return self.cache.take_out(row)

    @in_turn
    def put_back(self, frozen: FrozenRow) -> None:
        self.cache.put_back(frozen)

    @in_turn
    def read_block(self, row: CacheRow, start: int, stop: int) -> Block:
        return self.cache.read(row, start, stop)

    @in_turn
    def write_blocks(self, row: CacheRow, start: int, blocks: Sequence[Block]) -> None:
        self.cache.write(row, start, blocks)
