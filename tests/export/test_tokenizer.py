from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from transformers import GPT2TokenizerFast

from gpt2onnx.errors import TokenizerError
from gpt2onnx.export.config import Gpt2Config
from gpt2onnx.export.tokenizer import check_size, load_tokenizer
from tests.checkpoints import write_tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data"
TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two spaces,\ttab\r\nline\n\n\nlines   ",
    "naïve café — “quotes” … 3.14159 it's we'LL",
    "日本語のテキスト 한국어 العربية עברית हिन्दी",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200b\u200f\ufeff \x00\x7f\u0085\u2028",
    "\U0010ffff\ud7ff\ue000",
    "a<|endoftext|> <|endoftext|>b <|endoftext",
    "x [PAD] y[PAD]<mask>  <one>  <two> z<two>",
    "a" * 500 + "1" * 500,
]


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def change_json(path: Path, **changes: Any) -> None:
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)


def size_of(folder: Path) -> int:
    return len(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))


def only_vocab_and_merges(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in ("vocab.json", "merges.txt"):
            path.unlink()


def saved_by_transformers(folder: Path) -> None:
    pass


def only_tokenizer_json(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "tokenizer.json":
            path.unlink()


def prefix_space_in_vocabs_settings(folder: Path) -> None:
    only_vocab_and_merges(folder)
    write_json(folder / "tokenizer_config.json", {"add_prefix_space": True})


def prefix_space_in_settings(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", add_prefix_space=True)


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


def tokens_in_settings(folder: Path) -> None:
    flags = {"lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
    end_of_text = {"content": "<|endoftext|>", "special": True, **flags}
    one = {"content": "<one>", "special": False, **flags}
    mask = {"content": "<mask>", "special": False, **flags}
    size = size_of(folder)
    change_json(
        folder / "tokenizer_config.json",
        added_tokens_decoder={str(size + 1): mask, str(size): one, str(size - 1): end_of_text},
        pad_token="[PAD]",
        additional_special_tokens=["<two>", "<one>"],
    )


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


def test_the_saved_file_alone_gives_the_same(bytes_folder: Path, tmp_path: Path) -> None:
    tokens_in_settings(bytes_folder)
    prefix_space_in_settings(bytes_folder)
    tokenizer = load_tokenizer(bytes_folder)
    tokenizer.save(str(tmp_path / "saved.json"))
    again = Tokenizer.from_file(str(tmp_path / "saved.json"))
    for text in TEXTS:
        assert again.encode(text).ids == tokenizer.encode(text).ids


def test_end_of_text_is_not_added_to_a_vocabulary_without_it(bytes_folder: Path) -> None:
    only_vocab_and_merges(bytes_folder)
    vocab = json.loads((bytes_folder / "vocab.json").read_text(encoding="utf-8"))
    del vocab["<|endoftext|>"]
    write_json(bytes_folder / "vocab.json", vocab)
    assert load_tokenizer(bytes_folder).get_vocab_size() == 256


def test_none_found(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").touch()
    with pytest.raises(TokenizerError, match=r"expected tokenizer\.json, .*found spiece\.model"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", "line 1, column 2"),
        ("tokenizer.json", "{}", "can't be read"),
        ("tokenizer_config.json", '{"a":}', "line 1, column 6"),
        ("tokenizer_config.json", "[]", "expected a JSON object, found a list"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"256": {}}}', "expected a token"),
        ("tokenizer_config.json", '{"split_special_tokens": true}', "split_special_tokens"),
    ],
)
def test_unreadable(bytes_folder: Path, name: str, content: str, message: str) -> None:
    (bytes_folder / name).write_text(content)
    with pytest.raises(TokenizerError, match=message) as raised:
        load_tokenizer(bytes_folder)
    assert str(bytes_folder) in str(raised.value)


def test_merges_of_another_vocabulary(bytes_folder: Path) -> None:
    only_vocab_and_merges(bytes_folder)
    (bytes_folder / "merges.txt").write_text("#version: 0.2\nq u\n")
    with pytest.raises(TokenizerError, match="can't be read"):
        load_tokenizer(bytes_folder)


def test_vocab_and_merges_of_another_kind_of_tokenizer(bytes_folder: Path) -> None:
    only_vocab_and_merges(bytes_folder)
    write_json(bytes_folder / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"})
    with pytest.raises(TokenizerError, match=r"tokenizer\.json for RobertaTokenizer, found none"):
        load_tokenizer(bytes_folder)


def test_added_token_with_another_id_than_its_own(bytes_folder: Path) -> None:
    only_vocab_and_merges(bytes_folder)
    write_json(bytes_folder / "added_tokens.json", {"<one>": 300})
    with pytest.raises(TokenizerError, match=r"'<one>' has id 300 .* but 257 in its vocabulary"):
        load_tokenizer(bytes_folder)


def test_check_size(bytes_folder: Path) -> None:
    tokenizer = load_tokenizer(bytes_folder)
    check_size(tokenizer, Gpt2Config.from_json({"vocab_size": 257}))
    check_size(tokenizer, Gpt2Config.from_json({"vocab_size": 50304}))
    with pytest.raises(TokenizerError, match=r"id 256, '<\|endoftext\|>', is beyond .* 256"):
        check_size(tokenizer, Gpt2Config.from_json({"vocab_size": 256}))
