from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from gpt2onnx.errors import TokenizerError
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.checkpoint.tokenizer import check_size, load_tokenizer
from tests.checkpoints import write_tokenizer
from tests.raising import raises

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


def prefix_space_in_settings(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", add_prefix_space=True)


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


@pytest.fixture
def bytes_folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path)
    return tmp_path


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
    ("name", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", '{"a":}'),
        ("tokenizer_config.json", "[]"),
    ],
)
def test_unreadable(bytes_folder: Path, name: str, content: str) -> None:
    (bytes_folder / name).write_text(content)
    with raises(TokenizerError, path=bytes_folder / name, name=None):
        load_tokenizer(bytes_folder)


@pytest.mark.parametrize(
    ("content", "setting"),
    [
        ('{"added_tokens_decoder": {"256": {}}}', "token 256"),
        ('{"split_special_tokens": true}', "split_special_tokens"),
    ],
)
def test_settings_that_are_none(bytes_folder: Path, content: str, setting: str) -> None:
    (bytes_folder / "tokenizer_config.json").write_text(content)
    with raises(TokenizerError, path=bytes_folder, name=setting):
        load_tokenizer(bytes_folder)


def test_merges_of_another_vocabulary(bytes_folder: Path) -> None:
    only_vocab_and_merges(bytes_folder)
    (bytes_folder / "merges.txt").write_text("#version: 0.2\nq u\n")
    with raises(TokenizerError, path=bytes_folder):
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


# --- which tokens are special: the settings' and, of GPT2Tokenizer, the defaults -----------------

OTHERS = {"bos_token": "a", "eos_token": "b", "unk_token": "c"}


def test_end_of_text_as_a_plain_entry_is_text(bytes_folder: Path) -> None:
    only_vocab_and_merges(bytes_folder)
    write_json(bytes_folder / "tokenizer_config.json", OTHERS)
    ids = load_tokenizer(bytes_folder).encode("<|endoftext|>").ids
    assert ids[:3] == [27, 91, 68]  # "<", "|", "e" of a vocabulary without merges


def test_extra_special_tokens_as_transformers_5_writes_them(bytes_folder: Path) -> None:
    change_json(bytes_folder / "tokenizer_config.json", extra_special_tokens=["<one>", "<two>"])
    tokenizer = load_tokenizer(bytes_folder)
    assert tokenizer.encode("<two><one>").ids == [258, 257]
    assert tokenizer.decode([258, 257], skip_special_tokens=True) == ""


# --- ids beyond the model's -----------------------------------------------------------------------


def template_token(index: int) -> dict[str, Any]:
    special = {"SpecialToken": {"id": "<t>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    token = {"id": "<t>", "ids": [index], "tokens": ["<t>"]}
    return {
        "type": "TemplateProcessing",
        "single": [special, text],
        "pair": [],
        "special_tokens": {"<t>": token},
    }


@pytest.mark.parametrize("index", [257, 4096, 2**31 - 1])
@pytest.mark.parametrize("nested", [False, True])
def test_template_tokens_beyond_the_vocabulary(
    bytes_folder: Path, index: int, nested: bool
) -> None:
    template = template_token(index)
    sequence = {"type": "Sequence", "processors": [template]}
    change_json(bytes_folder / "tokenizer.json", post_processor=sequence if nested else template)
    tokenizer = load_tokenizer(bytes_folder)
    assert tokenizer.encode("a").ids[0] == index
    with raises(TokenizerError, name="<t>"):
        check_size(tokenizer, Gpt2Config.from_json({"vocab_size": 257}))


@pytest.mark.parametrize("index", [257, 5_000_000, 2**32 - 1])
def test_a_sparse_vocabulary(bytes_folder: Path, index: int) -> None:
    only_vocab_and_merges(bytes_folder)
    change_json(bytes_folder / "vocab.json", far=index)
    tokenizer = load_tokenizer(bytes_folder)
    assert tokenizer.get_vocab_size() == 258
    with raises(TokenizerError, name="far"):
        check_size(tokenizer, Gpt2Config.from_json({"vocab_size": 257 if index == 257 else 300}))


def test_check_size(bytes_folder: Path) -> None:
    tokenizer = load_tokenizer(bytes_folder)
    check_size(tokenizer, Gpt2Config.from_json({"vocab_size": 257}))
    check_size(tokenizer, Gpt2Config.from_json({"vocab_size": 50304}))
    with pytest.raises(TokenizerError, match=r"id 256, '<\|endoftext\|>', is beyond .* 256"):
        check_size(tokenizer, Gpt2Config.from_json({"vocab_size": 256}))


def test_an_empty_vocabulary(bytes_folder: Path) -> None:
    model = {"type": "BPE", "vocab": {}, "merges": []}
    (bytes_folder / "tokenizer_config.json").unlink()
    (bytes_folder / "special_tokens_map.json").unlink()
    change_json(bytes_folder / "tokenizer.json", added_tokens=[], model=model)
    with pytest.raises(TokenizerError, match="a tokenizer without any token"):
        check_size(load_tokenizer(bytes_folder), Gpt2Config.from_json({"vocab_size": 257}))


@pytest.mark.parametrize(
    "name", ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"]
)
def test_a_byte_order_mark_is_no_part_of_a_file(bytes_folder: Path, name: str) -> None:
    (bytes_folder / "tokenizer.json").unlink()
    expected = load_tokenizer(bytes_folder).to_str()
    content = (bytes_folder / name).read_bytes()
    (bytes_folder / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert load_tokenizer(bytes_folder).to_str() == expected


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt", "config.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "large"])
def test_no_file_that_can_be_read(bytes_folder: Path, name: str, kind: str) -> None:
    if name in ("vocab.json", "merges.txt"):
        (bytes_folder / "tokenizer.json").unlink()
    (bytes_folder / "tokenizer_config.json").unlink()
    (bytes_folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(bytes_folder / name)
    elif kind == "folder":
        (bytes_folder / name).mkdir()
    else:
        with (bytes_folder / name).open("wb") as file:
            file.truncate(2**40)
    with raises(TokenizerError, path=bytes_folder / name):
        load_tokenizer(bytes_folder)
