"""Tokenizers beside transformers' own, which it reads from the same files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, GPT2TokenizerFast

from gpt2onnx.errors import TokenizerError
from gpt2onnx.export.checkpoint.tokenizer import load_tokenizer
from tests.checkpoints import END_OF_TEXT, write_tokenizer
from tests.export.checkpoint.test_tokenizer import (
    OTHERS,
    TEXTS,
    change_json,
    only_vocab_and_merges,
    prefix_space_in_settings,
    size_of,
    tokens_in_settings,
    write_json,
)

SHARED = Path(__file__).parents[4] / "shared" / "data"


def saved_by_transformers(folder: Path) -> None:
    pass


def only_tokenizer_json(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "tokenizer.json":
            path.unlink()


def prefix_space_in_vocabs_settings(folder: Path) -> None:
    only_vocab_and_merges(folder)
    write_json(folder / "tokenizer_config.json", {"add_prefix_space": True})


def prefix_space_in_tokenizer_json_alone(folder: Path) -> None:
    """Which transformers overrules."""
    pre_tokenizer = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    change_json(folder / "tokenizer.json", pre_tokenizer=pre_tokenizer | {"use_regex": True})


def bos_before_every_text(folder: Path) -> None:
    only_vocab_and_merges(folder)
    write_json(folder / "tokenizer_config.json", {"add_bos_token": True})


def special_tokens_of_the_older_files(folder: Path) -> None:
    only_vocab_and_merges(folder)
    write_json(
        folder / "added_tokens.json", {"<two>": size_of(folder) + 1, "<one>": size_of(folder)}
    )
    write_json(
        folder / "special_tokens_map.json",
        {"pad_token": "[PAD]", "additional_special_tokens": ["<two>"], "sep_token": None},
    )


def older_files_beside_tokenizer_json(folder: Path) -> None:
    size = size_of(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("<two>", lstrip=True, special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    special_token = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})
    write_json(folder / "special_tokens_map.json", {"mask_token": special_token})
    write_json(folder / "added_tokens.json", {"<one>": size + 1, "<two>": size})


def truncation_and_padding(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(folder / "tokenizer.json"))


VARIANTS = [
    only_vocab_and_merges,
    saved_by_transformers,
    only_tokenizer_json,
    prefix_space_in_vocabs_settings,
    prefix_space_in_settings,
    prefix_space_in_tokenizer_json_alone,
    bos_before_every_text,
    special_tokens_of_the_older_files,
    older_files_beside_tokenizer_json,
    tokens_in_settings,
    truncation_and_padding,
]


@pytest.fixture
def bytes_folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def gpt2_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = SHARED / "gpt2-tokenizer"
    if not source.exists():
        pytest.skip(f"{source}, GPT-2's own tokenizer, is missing")
    folder = tmp_path_factory.mktemp("gpt2")
    files = (str(source / "vocab.json"), str(source / "merges.txt"))
    GPT2TokenizerFast(*files).save_pretrained(folder)
    return folder


@pytest.fixture
def gpt2_folder(gpt2_files: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "gpt2"
    shutil.copytree(gpt2_files, folder)
    return folder


def assert_equal_to_transformers(folder: Path, texts: list[str]) -> None:
    tokenizer, reference = load_tokenizer(folder), GPT2TokenizerFast.from_pretrained(folder)
    for text in texts:
        ids = tokenizer.encode(text).ids
        assert ids == reference(text)["input_ids"], text
        for skip in (True, False):
            expected = reference.decode(
                ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )
            assert tokenizer.decode(ids, skip_special_tokens=skip) == expected
    assert tokenizer.get_vocab() == reference.get_vocab()


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_transformers(variant: Callable[[Path], None], bytes_folder: Path) -> None:
    variant(bytes_folder)
    assert_equal_to_transformers(bytes_folder, TEXTS)


@pytest.mark.parametrize("variant", [only_vocab_and_merges, special_tokens_of_the_older_files])
def test_equals_transformers_with_gpt2s_own(
    variant: Callable[[Path], None], gpt2_folder: Path
) -> None:
    corpus = SHARED / "tinyshakespeare.txt"
    if not corpus.exists():
        pytest.skip(f"{corpus} is missing")
    variant(gpt2_folder)
    text = corpus.read_text(encoding="utf-8")
    excerpts = [text[start : start + 2000] for start in range(0, len(text), 100_000)]
    assert_equal_to_transformers(gpt2_folder, TEXTS + excerpts)


def test_any_text_comes_back_from_its_ids(gpt2_files: Path) -> None:
    tokenizer = load_tokenizer(gpt2_files)
    reference = GPT2TokenizerFast.from_pretrained(gpt2_files)

    @given(st.text())
    @settings(max_examples=200, deadline=None)
    def check(text: str) -> None:
        ids = tokenizer.encode(text).ids
        assert ids == reference(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=False) == text

    check()


FLAGS = {"lstrip": True, "rstrip": False, "normalized": False, "single_word": False}


TYPED = {**FLAGS, "__type": "AddedToken"}  # what transformers wants in tokenizer_config.json


MASK = {"content": "<mask>", **FLAGS}


CONFIGS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "others": OTHERS,
    "two others": {"bos_token": "a", "eos_token": "b"},
    "null": {"bos_token": None, "eos_token": None, "unk_token": None},
    "another class": {"tokenizer_class": "PreTrainedTokenizerFast"},
    "another class's": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END_OF_TEXT},
    "flags": {"bos_token": {"content": END_OF_TEXT, **TYPED}},
    "extra": {
        "extra_special_tokens": {"image_token": "[a]", "boi_token": {"content": "[b]", **TYPED}},
        "additional_special_tokens": ["<mask>"],
    },
    "ids": {**OTHERS, "added_tokens_decoder": {"256": {"content": END_OF_TEXT, **FLAGS}}},
}


MAPS: dict[str, dict[str, Any] | None] = {
    "no map": None,
    "others": OTHERS,
    "mask": {"mask_token": MASK, "pad_token": END_OF_TEXT},
    "null": {"unk_token": None},
}


SPECIAL_TEXTS = ["a<|endoftext|> b", " <|endoftext|>  <mask>z [a]  [b]  q", "<s>x</s> <unk>"]


@pytest.mark.parametrize("model_class", [None, "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("keep", ["vocab.json merges.txt", "tokenizer.json", "plain"])
@pytest.mark.parametrize("config", CONFIGS)
def test_special_tokens_are_transformers(
    bytes_folder: Path, config: str, keep: str, model_class: str | None
) -> None:
    """`plain` is a tokenizer.json whose vocabulary has <|endoftext|> as an entry like others."""
    if keep == "plain":
        change_json(bytes_folder / "tokenizer.json", added_tokens=[])
        keep = "tokenizer.json"
    for path in bytes_folder.iterdir():
        if path.name not in keep.split():
            path.unlink()
    write_json(bytes_folder / "config.json", {"model_type": "gpt2", "tokenizer_class": model_class})
    if CONFIGS[config] is not None:
        write_json(bytes_folder / "tokenizer_config.json", CONFIGS[config])
    for name, special in MAPS.items():
        if name == "mask" and "others" in config and keep != "tokenizer.json":
            continue  # "a" is a token within "<mask>"
        (bytes_folder / "special_tokens_map.json").unlink(missing_ok=True)
        if special is not None:
            write_json(bytes_folder / "special_tokens_map.json", special)
        compare_with_auto_tokenizer(bytes_folder)


def compare_with_auto_tokenizer(folder: Path) -> None:
    """The same ids, and the same text without the special ones; or neither can read it."""
    try:
        reference = AutoTokenizer.from_pretrained(folder)
    except Exception:
        with pytest.raises(TokenizerError):
            load_tokenizer(folder)
        return
    tokenizer = load_tokenizer(folder)
    for text in SPECIAL_TEXTS:
        ids = tokenizer.encode(text).ids
        assert ids == reference(text)["input_ids"]
        assert tokenizer.decode(ids) == reference.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
