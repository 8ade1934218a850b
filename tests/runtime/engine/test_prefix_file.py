"""Prefix files: what was written comes back, and nothing else ever does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from gpt2onnx.errors import OutputExistsError, ParameterError, PrefixFileError, StorageError
from gpt2onnx.runtime.decoder.arena import Block, CacheShape
from gpt2onnx.runtime.decoder.kv_cache import KVCache
from gpt2onnx.runtime.engine.prefix_chunks import CHUNK
from gpt2onnx.runtime.engine.prefix_file import ALIGN, load_prefix, save_prefix
from tests.raising import raises

MODEL = bytes(range(32))
IDS = np.arange(2 * CHUNK + 3) * 3
DTYPES = ["<f4", "<f2", "|i1", "|u1"]


def shape(dtype: str = "<f4") -> CacheShape:
    return CacheShape(layers=1, heads=2, head_dim=2, n_positions=256, dtype=np.dtype(dtype))


def block(dtype: str = "<f4") -> Block:
    made = shape(dtype).block(len(IDS))
    made[:] = np.random.default_rng(0).integers(0, 100, made.shape)
    return made


def save(path: Path, dtype: str = "<f4") -> None:
    cache = KVCache(shape(dtype))
    row = cache.new_row()
    cache.write(row, 0, [block(dtype)])
    assert save_prefix(path, cache, row, IDS, MODEL) == 2 * CHUNK


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "prefix")
    return tmp_path / "prefix"


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_written_comes_back(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "prefix"
    save(path, dtype)
    assert [each.name for each in tmp_path.iterdir()] == ["prefix"]
    file = load_prefix(str(path), MODEL, shape(dtype))
    assert file.ids.tolist() == IDS[: 2 * CHUNK].tolist()
    for number in range(2):
        part = block(dtype)[:, :, number * CHUNK : (number + 1) * CHUNK]
        np.testing.assert_array_equal(file.read(number), part)


def test_chunks_begin_at_a_page(saved: Path) -> None:
    file = load_prefix(saved, MODEL, shape())
    assert file.offset % ALIGN == 0
    assert saved.stat().st_size == file.offset + 2 * CHUNK * shape().token_bytes


def test_another_models_file(saved: Path) -> None:
    with pytest.raises(PrefixFileError, match="of another model, or another KV cache, than this"):
        load_prefix(saved, bytes(32), shape())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "isn't a prefix that gpt2onnx saved"),
        (b"# A text\n" * 100, "isn't a prefix that gpt2onnx saved"),
        (b"gpt2onnx prefix\x01", "its header is damaged; save the prompt again"),
        (b"gpt2onnx prefix\x01" + b"\xff" * 100, "its header is damaged"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(PrefixFileError, match=message):
        load_prefix(tmp_path / "file", MODEL, shape())


@pytest.mark.parametrize("change", [lambda whole: whole[:-1], lambda whole: whole + b"\0"])
def test_a_file_of_another_size(saved: Path, change: Callable[[bytes], bytes]) -> None:
    saved.write_bytes(change(saved.read_bytes()))
    with pytest.raises(PrefixFileError, match=r"expected [\d,]+ bytes, found [\d,]+; save the"):
        load_prefix(saved, MODEL, shape())


def test_no_file(tmp_path: Path) -> None:
    with raises(PrefixFileError, path=tmp_path / "none"):
        load_prefix(tmp_path / "none", MODEL, shape())
    with raises(PrefixFileError, path=tmp_path):
        load_prefix(tmp_path, MODEL, shape())
    os.mkfifo(tmp_path / "pipe")
    with raises(PrefixFileError, path=tmp_path / "pipe"):
        load_prefix(tmp_path / "pipe", MODEL, shape())


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_a_file_it_gives_what_was_written_or_an_error(
    saved: Path, data: st.DataObject
) -> None:
    whole = saved.read_bytes()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.sampled_from([len(whole), data.draw(st.integers(0, len(whole)))])) :]
    path = saved.with_name("damaged")
    path.write_bytes(damaged)
    try:
        file = load_prefix(path, MODEL, shape())
        found = [file.read(number) for number in range(2)]
    except PrefixFileError:
        assert damaged != whole
        return
    assert file.ids.tolist() == IDS[: 2 * CHUNK].tolist()
    np.testing.assert_array_equal(np.concatenate(found, axis=2), block()[:, :, : 2 * CHUNK])


def test_a_saved_prefix_is_replaced(saved: Path) -> None:
    before = saved.read_bytes()
    save(saved, "|i1")
    assert saved.read_bytes() != before
    assert load_prefix(saved, MODEL, shape("|i1")).read(1).dtype == np.int8


def test_nothing_else_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="is no prefix that gpt2onnx saved; choose another"):
        save(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with raises(OutputExistsError, path=tmp_path):
        save(tmp_path)


def test_no_place_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        save(tmp_path / "none" / "prefix")
    with raises(ParameterError, name="path"):
        save("a\0b")  # type: ignore[arg-type]


def test_a_prompt_without_a_whole_chunk(tmp_path: Path) -> None:
    cache = KVCache(shape())
    with pytest.raises(ParameterError, match="a prompt of 63 tokens: expected 64 or more"):
        save_prefix(tmp_path / "prefix", cache, cache.new_row(), np.arange(63), MODEL)
    assert not any(tmp_path.iterdir())
