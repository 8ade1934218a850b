"""A hit changes no bit: a model's logits behind restored and computed tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx import Model, demo
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.protocol import Ids, Logits
from gpt2onnx.runtime.engine.prefix_cache import PrefixCache
from gpt2onnx.runtime.engine.prefix_chunks import CHUNK

INT8_CACHE = "fp32 with an int8 KV cache"
PRECISIONS = ["fp32", "int8", "int8-dynamic", "int4", INT8_CACHE]
LENGTH = 300
STEPS = 3

in_each_precision = pytest.mark.parametrize("precision", PRECISIONS)


@pytest.fixture(scope="module")
def opened(wide_models: Callable[..., Path]) -> Callable[[str], Model]:
    @cache
    def load(precision: str) -> Model:
        rounded = precision == INT8_CACHE
        folder = wide_models("fp32", "int8") if rounded else demo.exported(precision=precision)
        # Two threads: products are split between them, which must not change a row.
        return gpt2onnx.load(folder, threads=2)

    return load


@pytest.fixture
def model(opened: Callable[[str], Model], precision: str) -> Iterator[Model]:
    model = opened(precision)
    yield model
    assert model.decoder.cache.rows == []


def ids_of(model: Model, seed: int) -> Ids:
    return np.random.default_rng(seed).integers(0, model.decoder.vocab_size, LENGTH + STEPS)


def logits_of(
    model: Model, ids: Ids, length: int, prefixes: PrefixCache | None = None
) -> tuple[int, Logits]:
    """How much of a prompt, ids[:length], was restored; the logits behind it and some steps."""
    decoder = model.decoder
    row = decoder.new_row()
    restored = prefixes.restore(row, ids[:length]) if prefixes else 0
    found = [reads.prefill(decoder, row, ids[restored:length])[None]]
    newest = ids[length : length + STEPS, None]
    found += [reads.step(decoder, [row], token) for token in newest]
    decoder.free(row)
    return restored, np.concatenate(found)


def keep(model: Model, prefixes: PrefixCache, ids: Ids) -> None:
    """Keep what prefill makes of a prompt."""
    row = model.decoder.new_row()
    reads.prefill(model.decoder, row, ids)
    prefixes.keep(row, ids)
    model.decoder.free(row)


@in_each_precision
@pytest.mark.parametrize("kept", [64, 65, 128, 150, 256, 299, 300])
def test_at_every_cut_of_a_prompt(model: Model, precision: str, kept: int) -> None:
    """The prompt that was kept ends anywhere, and so its own chunks do, in which it was read."""
    ids = ids_of(model, seed=kept)
    prefixes = PrefixCache(model.decoder.cache, b"", "1G")
    keep(model, prefixes, ids[:kept])
    restored, found = logits_of(model, ids, LENGTH, prefixes)
    assert restored == kept // CHUNK * CHUNK
    np.testing.assert_array_equal(found, logits_of(model, ids, LENGTH)[1])


@in_each_precision
def test_at_every_length_of_a_prompt(model: Model, precision: str) -> None:
    ids = ids_of(model, seed=0)
    prefixes = PrefixCache(model.decoder.cache, b"", "1G")
    keep(model, prefixes, ids[:LENGTH])
    for length in [65, 66, 67, *range(70, 128, 9), 127, 128, 129, 130, 193, 194, 200, 257, 258]:
        restored, found = logits_of(model, ids, length, prefixes)
        assert restored == (length - 2) // CHUNK * CHUNK
        np.testing.assert_array_equal(found, logits_of(model, ids, length)[1])


@in_each_precision
def test_of_a_hit_of_a_hit(model: Model, precision: str) -> None:
    """What was read behind restored tokens is kept, too."""
    ids = ids_of(model, seed=1)
    prefixes = PrefixCache(model.decoder.cache, b"", "1G")
    for length in (70, 140, 210, 280):
        row = model.decoder.new_row()
        restored = prefixes.restore(row, ids[:length])
        reads.prefill(model.decoder, row, ids[restored:length])
        prefixes.keep(row, ids[:length])
        model.decoder.free(row)
    restored, found = logits_of(model, ids, LENGTH, prefixes)
    assert restored == 256
    np.testing.assert_array_equal(found, logits_of(model, ids, LENGTH)[1])


@in_each_precision
def test_from_a_file(model: Model, precision: str, tmp_path: Path) -> None:
    ids = ids_of(model, seed=2)
    prefixes = PrefixCache(model.decoder.cache, b"", 0)
    row = model.decoder.new_row()
    reads.prefill(model.decoder, row, ids[:200])
    prefixes.save(tmp_path / "prompt", row, ids[:200])
    model.decoder.free(row)
    prefixes.load(tmp_path / "prompt")
    restored, found = logits_of(model, ids, LENGTH, prefixes)
    assert restored == 192
    np.testing.assert_array_equal(found, logits_of(model, ids, LENGTH)[1])


@in_each_precision
def test_frozen_between_steps(model: Model, precision: str) -> None:
    """Taken out and put back, beside another one that takes its place."""
    ids = ids_of(model, seed=3)
    decoder, kv = model.decoder, model.decoder.cache
    row = decoder.new_row()
    found = [reads.prefill(decoder, row, ids[:LENGTH])]
    for step in range(STEPS):
        frozen = kv.take_out(row)
        other = decoder.new_row()
        reads.prefill(decoder, other, ids[step : step + 50])
        kv.put_back(frozen)
        found.append(reads.step(decoder, [row], ids[LENGTH + step :][:1])[0])
        decoder.free(other)
    decoder.free(row)
    np.testing.assert_array_equal(np.stack(found), logits_of(model, ids, LENGTH)[1])
