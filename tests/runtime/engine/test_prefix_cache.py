"""The prefix cache against a model of it, on rows whose keys and values are marks of their ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gpt2onnx.errors import CacheFullError, ParameterError, PrefixFileError
from gpt2onnx.runtime.decoder.arena import Block, CacheShape
from gpt2onnx.runtime.decoder.kv_cache import CacheRow, KVCache
from gpt2onnx.runtime.decoder.protocol import Ids
from gpt2onnx.runtime.engine import prefix_cache as prefix_cache_module
from gpt2onnx.runtime.engine.prefix_cache import PrefixCache, PrefixStats
from gpt2onnx.runtime.engine.prefix_chunks import CHUNK, Chunk, model_digest
from tests.raising import raises

SHAPE = CacheShape(layers=2, heads=3, head_dim=2, n_positions=1024, dtype=np.dtype(np.float32))
MODEL = model_digest({"model.onnx": "0123"}, SHAPE)
CHUNK_BYTES = CHUNK * SHAPE.token_bytes
Letters = tuple[str, ...]


def prompt(letters: Letters | str, more: int = 0) -> Ids:
    """A chunk for each letter, and `more` tokens."""
    chunks = [np.full(CHUNK, ord(letter)) for letter in letters]
    return np.concatenate([np.zeros(0, np.int64), *chunks, np.full(more, 7)])


def computed(ids: Ids) -> Block:
    """What a model might make of ids [n]: every token's depends on all before it."""
    block = SHAPE.block(len(ids))
    block[:] = np.cumsum(ids * (1 + np.arange(len(ids))))[:, None]
    return block


def read(cache: KVCache, ids: Ids) -> CacheRow:
    """A row that holds what prefill made of ids [n]."""
    row = cache.new_row()
    cache.write(row, 0, [computed(ids)])
    return row


def opened(chunks: int = 8, **options: Any) -> tuple[KVCache, PrefixCache]:
    cache = KVCache(SHAPE)
    return cache, PrefixCache(cache, **{"model": MODEL, "size": chunks * CHUNK_BYTES, **options})


def keep(cache: KVCache, prefixes: PrefixCache, ids: Ids, tenant: str | None = None) -> None:
    row = read(cache, ids)
    prefixes.keep(row, ids, tenant)
    cache.free(row)


def restore(cache: KVCache, prefixes: PrefixCache, ids: Ids, tenant: str | None = None) -> int:
    """How many tokens come back, which are those computed."""
    row = cache.new_row()
    expected = prefixes.match(ids, tenant)
    found = prefixes.restore(row, ids, tenant)
    assert row.length == found <= expected
    np.testing.assert_array_equal(cache.read(row, 0, found), computed(ids[:found]))
    cache.free(row)
    return found


def test_what_was_kept_comes_back() -> None:
    cache, prefixes = opened()
    assert restore(cache, prefixes, prompt("abc", 2)) == 0
    keep(cache, prefixes, prompt("abc", 5))
    assert restore(cache, prefixes, prompt("abc", 9)) == 3 * CHUNK
    assert restore(cache, prefixes, prompt("abd", 9)) == 2 * CHUNK
    assert restore(cache, prefixes, prompt("bc", 9)) == 0
    assert prefixes.stats == PrefixStats(
        hits=2, misses=2, tokens=5 * CHUNK, chunks=3, bytes=3 * CHUNK_BYTES
    )


@pytest.mark.parametrize(("more", "chunks"), [(0, 1), (1, 1), (2, 2), (63, 2)])
def test_two_tokens_are_left_to_be_read(more: int, chunks: int) -> None:
    cache, prefixes = opened()
    keep(cache, prefixes, prompt("ab"))
    assert restore(cache, prefixes, prompt("ab", more)) == chunks * CHUNK


@pytest.mark.parametrize("length", [0, 1, 2, CHUNK - 1])
def test_prompts_shorter_than_a_chunk(length: int) -> None:
    cache, prefixes = opened()
    ids = np.arange(length)
    keep(cache, prefixes, ids)
    assert restore(cache, prefixes, ids) == 0
    assert prefixes.stats.chunks == 0


def test_only_whole_chunks_of_the_ids_are_kept_whatever_the_row_holds() -> None:
    cache, prefixes = opened()
    row = read(cache, prompt("abc"))
    prefixes.keep(row, prompt("abc")[: 2 * CHUNK + 10])
    assert restore(cache, prefixes, prompt("abc", 2)) == 2 * CHUNK


def test_what_is_kept_is_a_copy() -> None:
    cache, prefixes = opened()
    ids = prompt("ab")
    row = read(cache, ids)
    prefixes.keep(row, ids)
    cache.write(row, 0, [computed(prompt("xy"))])
    ids[:] = 0
    assert restore(cache, prefixes, prompt("ab", 2)) == 2 * CHUNK


def test_a_tenant_finds_its_own_alone() -> None:
    cache, prefixes = opened()
    tenants = [None, "", "a", "b", "=a", "\ud800"]
    for number, tenant in enumerate(tenants):
        assert restore(cache, prefixes, prompt("a", 2), tenant) == 0
        keep(cache, prefixes, prompt("a"), tenant)
        assert prefixes.stats.chunks == number + 1


def test_keys_differ_between_processes() -> None:
    """So that nobody outside can make two prompts meet on purpose."""
    first, second = (opened()[1] for _ in range(2))
    ids = prompt("a")
    (one,), (other,) = (list(each._chunks(ids, "tenant")) for each in (first, second))
    assert one.key != other.key


def test_the_key_alone_isnt_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two prompts whose keys are the same: the ids are compared."""

    def colliding(ids: Ids, seed: bytes) -> Any:
        starts = range(0, len(ids) // CHUNK * CHUNK, CHUNK)
        return (Chunk(bytes([start // CHUNK]), ids[start : start + CHUNK]) for start in starts)

    monkeypatch.setattr(prefix_cache_module, "chunks", colliding)
    cache, prefixes = opened()
    keep(cache, prefixes, prompt("ab"))
    assert restore(cache, prefixes, prompt("xb", 2)) == 0
    assert restore(cache, prefixes, prompt("ax", 2)) == CHUNK


def test_a_row_that_isnt_empty() -> None:
    cache, prefixes = opened()
    row = read(cache, prompt("a"))
    with pytest.raises(ValueError, match="a row of 64 tokens: expected an empty one"):
        prefixes.restore(row, prompt("ab"))


def test_a_row_that_has_no_room_is_left_as_it_was() -> None:
    short = CacheShape(2, 3, 2, n_positions=100, dtype=SHAPE.dtype)
    cache, long = KVCache(short), KVCache(SHAPE)
    prefixes = PrefixCache(cache, MODEL, "1G")
    prefixes._cache = long
    keep(long, prefixes, prompt("ab"))
    prefixes._cache = cache
    row = cache.new_row()
    with raises(CacheFullError, found=128, expected=100):
        prefixes.restore(row, prompt("ab", 2))
    assert row.length == 0
    assert prefixes.stats.hits == 0


@pytest.mark.parametrize("size", ["12 apples", -1, None])
def test_a_size_that_is_none(size: Any) -> None:
    with raises(ParameterError, parameters={"prefix_cache": size}):
        opened(size=size)


def test_a_prompt_larger_than_the_cache_keeps_its_beginning() -> None:
    cache, prefixes = opened(chunks=2)
    keep(cache, prefixes, prompt("xy"))
    keep(cache, prefixes, prompt("abcd"))
    assert restore(cache, prefixes, prompt("abcd", 2)) == 2 * CHUNK
    assert (prefixes.stats.chunks, prefixes.stats.evictions) == (2, 2)


@pytest.mark.parametrize("size", [0, "0", CHUNK_BYTES - 1])
def test_a_cache_of_nothing(size: Any) -> None:
    cache, prefixes = opened(size=size)
    keep(cache, prefixes, prompt("ab"))
    assert restore(cache, prefixes, prompt("ab", 2)) == 0
    assert (prefixes.stats.bytes, prefixes.stats.evictions) == (0, 0)


class Forest:
    """What should be kept: prompts' chunks by the letters up to them, and when each was used.

    The least recently used one that nothing follows goes first.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used: dict[tuple[str, Letters], int] = {}
        self.time = 0

    def length(self, tenant: str, letters: Letters) -> int:
        """How many of a prompt's chunks are kept."""
        paths = [(tenant, letters[: n + 1]) for n in range(len(letters))]
        return next((n for n, path in enumerate(paths) if path not in self.used), len(paths))

    def use(self, tenant: str, letters: Letters) -> None:
        self.time += 1
        for n in range(self.length(tenant, letters)):
            self.used[tenant, letters[: n + 1]] = self.time

    def keep(self, tenant: str, letters: Letters) -> None:
        letters = letters[: self.capacity]
        for n in range(len(letters)):
            path = letters[: n + 1]
            self.use(tenant, path[:-1])
            if (tenant, path) not in self.used:
                if len(self.used) == self.capacity:
                    del self.used[min(self.leaves(), key=lambda leaf: self.used[leaf])]
                self.used[tenant, path] = self.time
        self.use(tenant, letters)

    def leaves(self) -> list[tuple[str, Letters]]:
        parents = {(tenant, path[:-1]) for tenant, path in self.used}
        return [each for each in self.used if each not in parents]


class PrefixMachine(RuleBasedStateMachine):
    """Any prompts of few letters, so that they often begin alike."""

    letters = st.lists(st.sampled_from("ab"), max_size=4).map(tuple)
    tenants = st.sampled_from("st")

    def __init__(self) -> None:
        super().__init__()
        self.cache, self.prefixes = opened(chunks=5)
        self.forest = Forest(5)
        self.restored = 0

    @rule(letters=letters, tenant=tenants, more=st.integers(0, CHUNK - 1))
    def keep(self, letters: Letters, tenant: str, more: int) -> None:
        keep(self.cache, self.prefixes, prompt(letters, more), tenant)
        self.forest.keep(tenant, letters)

    @rule(letters=letters, tenant=tenants, more=st.integers(2, CHUNK - 1))
    def restore(self, letters: Letters, tenant: str, more: int) -> None:
        expected = self.forest.length(tenant, letters)
        assert restore(self.cache, self.prefixes, prompt(letters, more), tenant) == expected * CHUNK
        self.forest.use(tenant, letters)
        self.restored += expected

    @rule(letters=letters, tenant=tenants)
    def match(self, letters: Letters, tenant: str) -> None:
        """Which changes nothing."""
        expected = self.forest.length(tenant, letters)
        assert self.prefixes.match(prompt(letters, 2), tenant) == expected * CHUNK

    @invariant()
    def counters_are_right(self) -> None:
        stats = self.prefixes.stats
        assert stats.chunks == len(self.forest.used) <= 5
        assert stats.bytes == stats.chunks * CHUNK_BYTES
        assert stats.tokens == self.restored * CHUNK
        assert not self.cache.rows


PrefixMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPrefixes = PrefixMachine.TestCase


# Prompts on disk.


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The prompt "abc" in a file."""
    cache, prefixes = opened()
    ids = prompt("abc", 3)
    assert prefixes.save(tmp_path / "abc", read(cache, ids), ids) == 3 * CHUNK
    return tmp_path / "abc"


@pytest.mark.parametrize("chunks", [0, 1, 2, 8])
def test_a_prompt_on_disk_is_found_by_every_tenant(saved: Path, chunks: int) -> None:
    cache, prefixes = opened(chunks)
    assert prefixes.load(saved) == 3 * CHUNK
    for tenant in (None, "a", "b"):
        assert restore(cache, prefixes, prompt("abc", 2), tenant) == 3 * CHUNK
        assert restore(cache, prefixes, prompt("abd", 2), tenant) == 2 * CHUNK
    assert prefixes.stats.chunks == min(chunks, 3)  # once, whoever asked


def test_what_follows_a_prompt_on_disk_is_the_tenants_own(saved: Path) -> None:
    cache, prefixes = opened()
    prefixes.load(saved)
    keep(cache, prefixes, prompt("abcde"), "a")
    assert restore(cache, prefixes, prompt("abcde", 2), "a") == 5 * CHUNK
    assert restore(cache, prefixes, prompt("abcde", 2), "b") == 3 * CHUNK
    assert prefixes.stats.chunks == 5


def test_a_damaged_chunk_is_never_an_answer(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-CHUNK_BYTES - 1] ^= 1  # the second chunk's last byte
    saved.write_bytes(content)
    cache, prefixes = opened()
    prefixes.load(saved)
    for _ in range(2):
        assert restore(cache, prefixes, prompt("abc", 2)) == CHUNK
    assert (prefixes.stats.damaged, prefixes.stats.hits) == (1, 2)
    keep(cache, prefixes, prompt("abc"))
    assert restore(cache, prefixes, prompt("abc", 2)) == 3 * CHUNK
    assert prefixes.stats.damaged == 1


def test_a_file_that_gets_shorter_is_a_miss(saved: Path) -> None:
    cache, prefixes = opened()
    prefixes.load(saved)
    saved.write_bytes(saved.read_bytes()[:-1])
    assert restore(cache, prefixes, prompt("abc", 2)) == 2 * CHUNK
    assert prefixes.stats.damaged == 1


@pytest.mark.parametrize(("chunks", "found"), [(8, 3), (2, 2), (0, 0)])
def test_of_a_file_that_goes_away_stays_what_was_read(saved: Path, chunks: int, found: int) -> None:
    cache, prefixes = opened(chunks)
    prefixes.load(saved)
    assert restore(cache, prefixes, prompt("abc", 2)) == 3 * CHUNK
    saved.unlink()
    assert restore(cache, prefixes, prompt("abc", 2)) == found * CHUNK


def test_another_models_file(saved: Path) -> None:
    other = model_digest({"model.onnx": "4567"}, SHAPE)
    _, prefixes = opened(model=other)
    with raises(PrefixFileError, path=saved):
        prefixes.load(saved)
