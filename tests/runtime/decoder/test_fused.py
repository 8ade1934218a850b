"""The fused graph: rows don't see each other, and nothing of the cache's size is copied."""

from __future__ import annotations

from weakref import ref

import numpy as np
import pytest

from gpt2onnx.errors import CacheFullError
from gpt2onnx.runtime.decoder import fused, reads
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.decoder.protocol import Ids, Logits
from gpt2onnx.runtime.machine.processor import processor
from tests.conftest import WIDE
from tests.raising import raises

VOCAB = 257
N_POSITIONS = WIDE["n_positions"]
IDS = np.random.default_rng(0).integers(0, VOCAB, N_POSITIONS)
STEPS = 12
# fp16 is missing: its head's product of one row is another kernel's than that of several.
CACHED_IN_INT8 = ["fp32 int8", "int8 int8", "int8-dynamic int8"]
# Before VNNI ONNX Runtime's 4-bit product of one row adds up in another order than of several.
INT4 = [] if processor().saturates_int8 else ["int4"]
BIT_IDENTICAL = ["fp32", "int8", "int8-dynamic", *INT4, *CACHED_IN_INT8]


in_each_precision = pytest.mark.parametrize("decoder", BIT_IDENTICAL, indirect=True)


def alone(decoder: FusedDecoder, ids: Ids, prompt: int) -> Logits:
    """Logits after the first `prompt` of ids, then after each of the others, in a row by itself."""
    row = decoder.new_row()
    logits = [reads.prefill(decoder, row, ids[:prompt])]
    logits += [reads.step(decoder, [row], ids[n : n + 1])[0] for n in range(prompt, len(ids))]
    decoder.free(row)
    return np.array(logits)


@in_each_precision
@pytest.mark.parametrize("batch", [1, 2, 3, 8, 32])
def test_neighbours_change_no_bit(decoder: FusedDecoder, batch: int) -> None:
    rng = np.random.default_rng(batch)
    lengths = rng.integers(1, 200, batch)
    texts = [rng.integers(0, VOCAB, length + STEPS) for length in lengths]
    watched = int(rng.integers(batch))
    expected = alone(decoder, texts[watched], lengths[watched])
    rows = [decoder.new_row() for _ in range(batch)]
    prompts = [
        reads.prefill(decoder, row, text[:-STEPS]) for row, text in zip(rows, texts, strict=True)
    ]
    np.testing.assert_array_equal(prompts[watched], expected[0])
    for step in range(STEPS):
        newest = np.array(
            [text[length + step] for text, length in zip(texts, lengths, strict=True)]
        )
        np.testing.assert_array_equal(
            reads.step(decoder, rows, newest)[watched], expected[1 + step]
        )


@pytest.mark.parametrize("decoder", ["int4"], indirect=True)
def test_neighbours_of_4_bit_rows_change_next_to_nothing(decoder: FusedDecoder) -> None:
    """Whatever the processor."""
    expected = alone(decoder, IDS[:60], 50)
    rows = [decoder.new_row() for _ in range(3)]
    prompts = [reads.prefill(decoder, row, IDS[:50]) for row in rows]
    np.testing.assert_allclose(prompts[1], expected[0], atol=1e-4)
    for step in range(10):
        logits = reads.step(decoder, rows, np.repeat(IDS[50 + step], 3))
        np.testing.assert_allclose(logits[1], expected[1 + step], atol=1e-4)


@in_each_precision
@pytest.mark.parametrize("chunk", [2, 3, 64, 1000])
def test_chunks_change_no_bit(
    decoder: FusedDecoder, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, prompt = IDS[: 192 + STEPS], 192  # no chunk of a single token is left
    expected = alone(decoder, ids, prompt)
    monkeypatch.setattr(fused, "PREFILL_CHUNK", chunk)
    np.testing.assert_array_equal(alone(decoder, ids, prompt), expected)


def test_a_chunk_of_one_token_rounds_otherwise(
    decoder: FusedDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention of a single token adds up in another order than that of several."""
    expected = alone(decoder, IDS[:100], 90)
    monkeypatch.setattr(fused, "PREFILL_CHUNK", 1)
    np.testing.assert_allclose(alone(decoder, IDS[:100], 90), expected, atol=1e-4)


@pytest.mark.parametrize("decoder", CACHED_IN_INT8, indirect=True)
def test_with_an_int8_cache_a_lone_token_is_one_of_several(decoder: FusedDecoder) -> None:
    """Its attention adds up in one order, so what is judged at once is what steps would give."""
    row = decoder.new_row()
    reads.prefill(decoder, row, IDS[:100])
    several = reads.extend(decoder, row, IDS[100:110])
    np.testing.assert_array_equal(several, alone(decoder, IDS[:110], 100)[1:])


@in_each_precision
def test_a_subset_of_rows_in_any_order(decoder: FusedDecoder) -> None:
    lengths = [5, 140, 1, 33, 70]
    expected = [alone(decoder, IDS[n : 2 * n + 3], n) for n in lengths]
    rows = [decoder.new_row() for _ in lengths]
    for row, n in zip(rows, lengths, strict=True):
        reads.prefill(decoder, row, IDS[n : 2 * n])
    taken = [0] * len(rows)
    for subset in ([3, 0], [1], [4, 1, 0], [2, 4], [0, 2, 3], [4, 3, 2, 1]):
        ids = np.array([IDS[2 * lengths[i] + taken[i]] for i in subset])
        logits = reads.step(decoder, [rows[i] for i in subset], ids)
        for i, row_logits in zip(subset, logits, strict=True):
            taken[i] += 1
            np.testing.assert_array_equal(row_logits, expected[i][taken[i]])
    assert taken == [3] * 5
    assert [row.length for row in rows] == [n + 3 for n in lengths]


def test_logits_are_the_callers_to_keep(decoder: FusedDecoder) -> None:
    """Inputs are written in place from step to step, outputs are not."""
    row, other = decoder.new_row(), decoder.new_row()
    kept = [reads.prefill(decoder, row, IDS[:40]), reads.extend(decoder, row, IDS[40:43])]
    kept += [reads.step(decoder, [row], IDS[n : n + 1]) for n in (43, 44)]
    before = [logits.copy() for logits in kept]
    reads.prefill(decoder, other, IDS[7:47])
    reads.extend(decoder, other, IDS[:3])
    reads.step(decoder, [other, row], IDS[:2])
    reads.step(decoder, [row], IDS[:1])
    for now, then in zip(kept, before, strict=True):
        np.testing.assert_array_equal(now, then)


@in_each_precision
def test_freeing_a_row_leaves_the_others(decoder: FusedDecoder) -> None:
    expected = [alone(decoder, IDS[n : n + 50], 40) for n in range(4)]
    rows = [decoder.new_row() for _ in range(4)]
    for n, row in enumerate(rows):
        reads.prefill(decoder, row, IDS[n : n + 40])
    live = [0, 1, 2, 3]
    for step, leaver in enumerate([1, 3, 0]):
        decoder.free(rows[leaver])
        live.remove(leaver)
        ids = np.array([IDS[n + 40 + step] for n in live])
        logits = reads.step(decoder, [rows[n] for n in live], ids)
        for n, row_logits in zip(live, logits, strict=True):
            np.testing.assert_array_equal(row_logits, expected[n][1 + step])


@in_each_precision
def test_forks_go_their_own_ways(decoder: FusedDecoder) -> None:
    ways = [np.concatenate([IDS[:130], np.full(STEPS, token)]) for token in (7, 8, 9)]
    expected = [alone(decoder, way, 130) for way in ways]
    row = decoder.new_row()
    reads.prefill(decoder, row, IDS[:130])
    rows = [row, decoder.fork(row), decoder.fork(row)]
    for step in range(STEPS):
        for n, logits in enumerate(reads.step(decoder, rows, np.array([7, 8, 9]))):
            np.testing.assert_array_equal(logits, expected[n][1 + step])


@in_each_precision
def test_a_truncated_row_continues_as_a_fresh_one(decoder: FusedDecoder) -> None:
    expected = alone(decoder, np.concatenate([IDS[:77], IDS[200:210]]), 77)
    row = decoder.new_row()
    reads.prefill(decoder, row, IDS[:77])
    reads.extend(decoder, row, IDS[100:150])
    decoder.truncate(row, 77)
    for n in range(10):
        logits = reads.step(decoder, [row], IDS[200 + n : 201 + n])[0]
        np.testing.assert_array_equal(logits, expected[1 + n])
    decoder.truncate(row, 0)
    np.testing.assert_array_equal(reads.prefill(decoder, row, IDS[:77]), expected[0])


@in_each_precision
def test_extend_is_prefill_with_every_position(decoder: FusedDecoder) -> None:
    row = decoder.new_row()
    every = reads.extend(decoder, row, IDS[:300])
    decoder.free(row)
    assert every.shape == (300, VOCAB)
    for n in (2, 64, 128, 300):
        row = decoder.new_row()
        np.testing.assert_array_equal(reads.prefill(decoder, row, IDS[:n]), every[n - 1])
        decoder.free(row)


@in_each_precision
def test_growing_changes_no_bit(decoder: FusedDecoder) -> None:
    ids = IDS[: 125 + STEPS]
    rows = [decoder.new_row(), decoder.new_row()]
    reads.prefill(decoder, rows[0], ids[:125])
    reads.prefill(decoder, rows[1], IDS[50:60])
    assert decoder.cache.arena is not None
    before = decoder.cache.arena.capacity
    logits = [reads.step(decoder, rows, ids[[n, n]])[0] for n in range(125, len(ids))]
    assert decoder.cache.arena.capacity > before
    for row in rows:
        decoder.free(row)
    np.testing.assert_array_equal(logits, alone(decoder, ids, 125)[1:])


@pytest.mark.parametrize("decoder", ["fp32", "fp32 int8"], indirect=True)
def test_past_and_present_are_one_memory(decoder: FusedDecoder) -> None:
    """Attention appends in place: its outputs lie where the cache is, and never move."""
    decoder.reserve(3, 40)
    rows = [decoder.new_row() for _ in range(3)]
    for row in rows:
        reads.prefill(decoder, row, IDS[:9])
    arena = decoder.cache.arena
    assert arena is not None
    addresses = arena.addresses(0)
    for step in range(10):
        before = [tensor.copy() for tensor in arena.tensors]
        reads.step(decoder, rows, IDS[step : step + 3])
        assert decoder.cache.arena is arena
        assert arena.addresses(0) == addresses
        *presents, _ = decoder._bindings["logits",].raw.get_outputs()  # the logits were bound last
        assert [present.data_ptr() for present in presents] == addresses
        for old, new in zip(before, arena.tensors, strict=True):
            changed = (old != new).any(axis=(0, 1, 3))
            assert np.flatnonzero(changed).tolist() == [9 + step]


def test_one_row_alone_is_bound_at_its_own_address(decoder: FusedDecoder) -> None:
    rows = [decoder.new_row() for _ in range(3)]
    reads.prefill(decoder, rows[2], IDS[:4])
    arena = decoder.cache.arena
    assert arena is not None
    *presents, _ = decoder._bindings["logits",].raw.get_outputs()  # the logits were bound last
    assert [present.data_ptr() for present in presents] == arena.addresses(2)
    for tensor in arena.tensors:
        assert not tensor[:2].any()
        assert tensor[2, :, :4].all()
        assert not tensor[2, :, 4:].any()


def test_memory_goes_with_the_last_row(decoder: FusedDecoder) -> None:
    rows = [decoder.new_row(), decoder.new_row()]
    reads.step(decoder, rows, IDS[:2])
    arena = ref(decoder.cache.arena)
    for row in rows:
        assert arena() is not None
        decoder.free(row)
    assert arena() is None


def test_memory_that_was_outgrown_goes_too(decoder: FusedDecoder) -> None:
    """Though what was bound to it may never be run again."""
    reads.prefill(decoder, decoder.new_row(), IDS[:5])
    outgrown = ref(decoder.cache.arena)
    decoder.reserve(4, 5)
    assert outgrown() is None
    assert decoder.cache.arena is not None


@pytest.mark.parametrize("call", ["prefill", "extend"])
def test_a_full_row_takes_nothing(decoder: FusedDecoder, call: str) -> None:
    """What doesn't fit as a whole isn't begun."""
    row = decoder.new_row()
    reads.prefill(decoder, row, IDS[:100])
    with raises(CacheFullError, found=321, expected=N_POSITIONS):
        getattr(reads, call)(decoder, row, IDS[:221])
    assert row.length == 100
    np.testing.assert_array_equal(
        reads.prefill(decoder, row, IDS[100:N_POSITIONS]), alone(decoder, IDS, N_POSITIONS)[0]
    )
    with raises(CacheFullError, found=N_POSITIONS + 1, expected=N_POSITIONS):
        reads.step(decoder, [row], IDS[:1])


def test_a_freed_row_is_refused(decoder: FusedDecoder) -> None:
    other, row = decoder.new_row(), decoder.new_row()
    reads.prefill(decoder, other, IDS[:3])
    decoder.free(row)
    for use in (
        lambda: reads.prefill(decoder, row, IDS[:3]),
        lambda: reads.extend(decoder, row, IDS[:3]),
        lambda: reads.step(decoder, [other, row], IDS[:2]),
        lambda: decoder.free(row),
    ):
        with pytest.raises(ValueError, match="freed"):
            use()
    assert other.length == 3
