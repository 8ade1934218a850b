"""The prefix cache: keys and values of prompts that were read before, for those that begin alike.

Prompts are kept in chunks outside the arena. Copying them back costs a fiftieth of computing them,
and changes no bit: what is kept was made by prefill, and at least two tokens of a prompt are left
to be read, because attention rounds a lone one otherwise than several. So what `step` computed may
not be kept, nor what slid.

The least recently used chunks make way, of one prompt the last first. A tenant finds what was kept
for it alone, and files that were loaded. For one thread at a time.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gpt2onnx.errors import Given, PrefixFileError
from gpt2onnx.runtime.decoder.arena import Block
from gpt2onnx.runtime.decoder.kv_cache import Blocks, CacheRow
from gpt2onnx.runtime.decoder.protocol import Ids
from gpt2onnx.runtime.engine.prefix_chunks import CHUNK, Chunk, chunks, seed_of
from gpt2onnx.runtime.engine.prefix_file import PrefixFile, load_prefix, save_prefix
from gpt2onnx.runtime.machine.sizes import parse_size

LEFT_TO_READ = 2


@dataclass(frozen=True)
class PrefixStats:
    """What the cache has done, and what it holds. Every `restore` is a hit or a miss."""

    hits: int = 0
    misses: int = 0
    tokens: int = 0  # restored
    chunks: int = 0  # held now
    bytes: int = 0  # held now
    evictions: int = 0  # chunks
    damaged: int = 0  # chunks of files


@dataclass(frozen=True)
class _Kept:
    """A chunk's ids [CHUNK], and its keys and values."""

    ids: Ids
    block: Block


class PrefixCache:
    """Prefixes of one model's prompts, `size` bytes at most: a number, or text such as "512M".

    `model` is prefix_chunks.model_digest's. Raises ParameterError for a size that is none.
    """

    def __init__(self, cache: Blocks, model: bytes, size: str | int) -> None:
        self.limit = parse_size(size, Given("prefix_cache", size))
        self._cache, self._model = cache, model
        self._chunk_bytes = CHUNK * cache.shape.token_bytes
        self._secret = secrets.token_bytes(32)
        # The least recently used first; a chunk is always used after those that follow it.
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._files: dict[bytes, tuple[PrefixFile, int]] = {}
        self._stats = PrefixStats()

    @property
    def stats(self) -> PrefixStats:
        held = len(self._kept)
        return replace(self._stats, chunks=held, bytes=held * self._chunk_bytes)

    def match(self, ids: Ids, tenant: str | None = None) -> int:
        """How many tokens of a prompt [n] `restore` would bring, unless a file is damaged."""
        found = 0
        for chunk in self._chunks(_usable(ids), tenant):
            if chunk.key not in self._files and not self._holds(chunk):
                break
            found += CHUNK
        return found

    def restore(self, row: CacheRow, ids: Ids, tenant: str | None = None) -> int:
        """Write what is kept of a prompt [n] to an empty row; how many tokens that is.

        At least two of the prompt are left, to be read by prefill.
        """
        if row.length:
            raise ValueError(f"a row of {row.length} tokens: expected an empty one")
        keys: list[bytes] = []
        blocks: list[Block] = []
        for chunk in self._chunks(_usable(ids), tenant):
            keys.append(chunk.key)
            block = self._block(chunk, keys)
            if block is None:
                break
            blocks.append(block)
        self._cache.write(row, 0, blocks)
        self._use(keys)
        self._count(hits=bool(blocks), misses=not blocks, tokens=row.length)
        return row.length

    def keep(self, row: CacheRow, ids: Ids, tenant: str | None = None) -> None:
        """Keep the whole chunks of ids [n], which prefill read into `row`; more may follow there.

        What came by `restore` is as good as read.
        """
        keys: list[bytes] = []
        for number, chunk in enumerate(self._chunks(ids, tenant)):
            keys.append(chunk.key)
            if not self._may_hold(keys):
                break
            if chunk.key not in self._kept:
                start = number * CHUNK
                block = self._cache.read(row, start, start + CHUNK)
                self._insert(keys, _Kept(chunk.ids.copy(), block))
        self._use(keys)

    def save(self, path: str | Path, row: CacheRow, ids: Ids) -> int:
        """Write what `keep` would keep to a file; how many tokens that is. As `save_prefix`."""
        return save_prefix(path, self._cache, row, ids, self._model)

    def load(self, path: str | Path) -> int:
        """Let every tenant's prompts find a prefix that was saved; how many tokens it has.

        Its chunks are read when a prompt wants them, and compared: a damaged one isn't found any
        more. Raises PrefixFileError for a file that is none, or another model's.
        """
        file = load_prefix(path, self._model, self._cache.shape)
        for number, chunk in enumerate(chunks(file.ids, self._model)):
            self._files[chunk.key] = file, number
        return len(file.ids)

    def _chunks(self, ids: Ids, tenant: str | None) -> Iterator[Chunk]:
        """The chunks of ids [n] under the keys of a file that has them, or of the tenant."""
        own = chunks(ids, seed_of(tenant, self._model, self._secret))
        if not self._files:
            yield from own
            return
        for mine, public in zip(own, chunks(ids, self._model), strict=True):
            yield public if public.key in self._files else mine

    def _holds(self, chunk: Chunk) -> bool:
        """Whether a chunk is in memory: its ids are compared, too."""
        kept = self._kept.get(chunk.key)
        return kept is not None and np.array_equal(kept.ids, chunk.ids)

    def _block(self, chunk: Chunk, keys: Sequence[bytes]) -> Block | None:
        """A chunk's keys and values, from memory or from a file; `keys` are those up to it."""
        if self._holds(chunk):
            return self._kept[chunk.key].block
        if chunk.key not in self._files:
            return None
        file, number = self._files[chunk.key]
        try:
            block = file.read(number)
        except PrefixFileError:  # it is read as if it had never been kept
            del self._files[chunk.key]
            self._count(damaged=1)
            return None
        if self._may_hold(keys):
            self._insert(keys, _Kept(chunk.ids.copy(), block))
        return block

    def _may_hold(self, keys: Sequence[bytes]) -> bool:
        """Whether a chunk and all before it are no more than the cache may hold."""
        return len(keys) * self._chunk_bytes <= self.limit

    def _insert(self, keys: Sequence[bytes], kept: _Kept) -> None:
        """Keep the last of `keys`; what was used least recently, and none of these, makes way."""
        self._use(keys[:-1])
        while (len(self._kept) + 1) * self._chunk_bytes > self.limit:
            self._kept.popitem(last=False)
            self._count(evictions=1)
        self._kept[keys[-1]] = kept
        self._use(keys)

    def _use(self, keys: Sequence[bytes]) -> None:
        """Mark a prompt's chunks as used now, the first last."""
        for key in reversed(keys):
            if key in self._kept:
                self._kept.move_to_end(key)

    def _count(self, **more: int) -> None:
        added = {name: getattr(self._stats, name) + number for name, number in more.items()}
        self._stats = replace(self._stats, **added)


def _usable(ids: Ids) -> Ids:
    """The part of a prompt [n] that may be restored."""
    return ids[: max(0, len(ids) - LEFT_TO_READ)]
