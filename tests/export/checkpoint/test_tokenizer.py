from __future__ import annotations

import json
import os
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
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.checkpoint.tokenizer import check_size, load_tokenizer
from tests.checkpoints import END_OF_TEXT, write_tokenizer

SHARED = Path(__file__).parents[4] / "shared" / "data"
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


# --- which tokens are special: the settings' and, of GPT2Tokenizer, the defaults -----------------

OTHERS = {"bos_token": "a", "eos_token": "b", "unk_token": "c"}
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
    with pytest.raises(TokenizerError, match=rf"id {index}, '<t>', is beyond .* 257;"):
        check_size(tokenizer, Gpt2Config.from_json({"vocab_size": 257}))


@pytest.mark.parametrize("index", [257, 5_000_000, 2**32 - 1])
def test_a_sparse_vocabulary(bytes_folder: Path, index: int) -> None:
    only_vocab_and_merges(bytes_folder)
    change_json(bytes_folder / "vocab.json", far=index)
    tokenizer = load_tokenizer(bytes_folder)
    assert tokenizer.get_vocab_size() == 258
    with pytest.raises(TokenizerError, match=rf"id {index}, 'far', is beyond .*"):
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
    message = {"pipe": "found a pipe", "folder": "found a folder", "large": "at most 1?.*bytes"}
    with pytest.raises(TokenizerError, match=f"{name}: .*{message[kind]}"):
        load_tokenizer(bytes_folder)
