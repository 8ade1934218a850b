"""Tokenizers kept in parts, compared with the library's own opening of tokenizer.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from gpt2onnx.errors import ModelFolderError
from gpt2onnx.runtime import kept_tokenizer as kept
from gpt2onnx.runtime.folder.model_folder import ModelFolder
from gpt2onnx.runtime.ort.startup_cache import startup_entries
from gpt2onnx.runtime.ort.startup_entries import Entry
from gpt2onnx.tokenizer.file import read_tokenizer_json, tokenizer_of

MERGES = [("a", "b"), ("ab", "é"), ("Ġ", "ab")]
VOCAB = {token: n for n, token in enumerate(["é", "b", "a", "ab", "Ġ", "abé", "Ġab", "<end>"])}
TEXTS = ["", "ab", "abé ab<end>b a", "<mine> ab  xyz"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GPT2ONNX_STARTUP_CACHE_SIZE", raising=False)
    monkeypatch.setattr(kept, "MIN_SIZE", 0)


def of(model: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def bpe(**settings: Any) -> Tokenizer:
    return of(models.BPE(VOCAB, MERGES, **settings))


def with_tokens() -> Tokenizer:
    tokenizer = bpe(unk_token="é", fuse_unk=True)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.add_tokens([AddedToken("<mine>", lstrip=True), "new"])
    return tokenizer


def with_spaces() -> Tokenizer:
    """No line of merges.txt can say which two of three are merged."""
    vocab = {token: n for n, token in enumerate(["a", "b c", "ab c"])}
    return of(models.BPE(vocab, [("a", "b c")]))


@dataclass
class Folder:
    """A model folder with a tokenizer alone, and how often that was read whole."""

    path: Path
    whole: int = field(default=0)

    def write(self, tokenizer: Tokenizer) -> None:
        (self.path / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")

    def open(self) -> Tokenizer:
        folder = ModelFolder(self.path, self.path / "model.onnx", None, {}, None)
        return kept.kept_tokenizer(folder, self._open_whole)

    def _open_whole(self) -> Tokenizer:
        self.whole += 1
        path = self.path / "tokenizer.json"
        return tokenizer_of(read_tokenizer_json(path, ModelFolderError), path, ModelFolderError)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "model").mkdir()
    return Folder(tmp_path / "model")


def entry() -> Entry:
    (found,) = startup_entries()
    return found


@pytest.mark.parametrize(
    "make",
    [
        bpe,
        with_tokens,
        lambda: bpe(continuing_subword_prefix="", end_of_word_suffix=""),  # as GPT-2's own has it
        lambda: bpe(byte_fallback=True, ignore_merges=True),
        lambda: bpe(dropout=0.0),
    ],
)
def test_the_second_time_it_comes_from_its_parts(
    folder: Folder, make: Callable[[], Tokenizer]
) -> None:
    folder.write(make())
    first, second = folder.open(), folder.open()
    assert (folder.whole, entry().refused) == (1, None)
    assert second.to_str() == first.to_str() == make().to_str()
    assert second.get_vocab() == first.get_vocab()
    for text in TEXTS:
        assert second.encode(text).ids == first.encode(text).ids
        assert second.decode(second.encode(text).ids) == first.decode(first.encode(text).ids)


@pytest.mark.parametrize("make", [lambda: of(models.WordLevel({"a": 0, "u": 1}, "u")), with_spaces])
def test_what_its_parts_would_not_give_back_is_read_whole(
    folder: Folder, make: Callable[[], Tokenizer]
) -> None:
    folder.write(make())
    assert folder.open().to_str() == folder.open().to_str() == make().to_str()
    assert (folder.whole, entry().refused is None) == (2, False)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "rest.json"])
def test_a_damaged_entry_is_made_anew(folder: Folder, name: str) -> None:
    folder.write(bpe())
    folder.open()
    (entry().path / name).write_text("{", encoding="utf-8")
    assert folder.open().to_str() == bpe().to_str()
    assert folder.open().to_str() == bpe().to_str()
    assert folder.whole == 2


def test_another_tokenizer_takes_the_former_ones_place(folder: Folder) -> None:
    folder.write(bpe())
    folder.open()
    former = entry()
    folder.write(with_tokens())
    assert folder.open().to_str() == folder.open().to_str() == with_tokens().to_str()
    assert entry().path != former.path


def test_a_small_one_and_a_cache_that_is_off(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(bpe())
    with monkeypatch.context() as patch:
        patch.setattr(kept, "MIN_SIZE", 10_000)
        folder.open()
    monkeypatch.setenv("GPT2ONNX_STARTUP_CACHE_SIZE", "0")
    folder.open()
    assert (folder.whole, list(startup_entries())) == (2, [])


def test_a_place_that_is_no_folder(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "file"))
    folder.write(bpe())
    assert folder.open().to_str() == bpe().to_str()
