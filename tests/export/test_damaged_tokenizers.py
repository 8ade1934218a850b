"""Damaged tokenizer files: an error with a name, in one line, or a tokenizer that works."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx.errors import Gpt2OnnxError, PromptError, TokenizerError
from gpt2onnx.export.checkpoint.tokenizer import TOKENIZER_FILES, load_tokenizer
from gpt2onnx.tokenizer.codec import encode
from gpt2onnx.tokenizer.library import library_errors
from tests.checkpoints import write_tokenizer
from tests.raising import raises
from tests.tokenizer_damage import CHARSMAPS, MODELS, PARTS, damage, set_part


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_tokenizer(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "folder")


def change(folder: Path, **parts: Any) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


def part(kind: str, place: str, number: int = 0) -> dict[str, Any]:
    return [each for each in PARTS[place] if each["type"] == kind][number]


@pytest.mark.parametrize("seed", range(40))
def test_a_sweep_of_damage(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    name = chance.choice(TOKENIZER_FILES)
    if name != "tokenizer.json":
        (folder / "tokenizer.json").unlink()
    damage(folder / name, chance)
    error = used(folder)
    assert error is None or (str(error).isprintable() and len(str(error)) < 700)


def used(folder: Path) -> Gpt2OnnxError | None:
    """The error of loading a tokenizer and reading texts, if any."""
    try:
        tokenizer = load_tokenizer(folder)
        for text in ("hello", "é日 b<|endoftext|>"):
            encode(tokenizer, text)
    except Gpt2OnnxError as error:
        return error
    return None


@pytest.mark.parametrize("number", range(len(CHARSMAPS)))
def test_precompiled_tables_that_the_library_dies_of(folder: Path, number: int) -> None:
    change(folder, normalizer=part("Precompiled", "normalizer", number))
    with raises(TokenizerError, path=folder / "tokenizer.json"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("place", "kind", "number", "message"),
    [
        ("pre_tokenizer", "FixedLength", 0, "chunk size must be non-zero"),
        ("pre_tokenizer", "Split", 0, "retry-limit-in-match over"),
        ("post_processor", "TemplateProcessing", 8, "no entry found for key"),
        ("post_processor", "TemplateProcessing", 2, "make a text 5e.03 times longer"),
        ("decoder", "Strip", 1, "index out of bounds"),
        ("decoder", "Replace", 2, "make a text 1e.04 times longer"),
    ],
)
def test_parts_that_can_do_harm(
    folder: Path, place: str, kind: str, number: int, message: str
) -> None:
    change(folder, **{place: part(kind, place, number)})
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(folder)


def test_replacements_in_a_chain(folder: Path) -> None:
    """Each makes ten of one, twelve a memory that no machine has."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    set_part(tokenizer, "normalizer", [part("Replace", "normalizer", 2)] * 12)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(TokenizerError, match=r"normalizer can make a text 1e\+12 times longer"):
        load_tokenizer(folder)


def test_a_chain_of_many_parts_and_a_deep_one(folder: Path) -> None:
    plain = {"type": "NFC"}
    change(folder, normalizer={"type": "Sequence", "normalizers": [plain] * 101})
    with pytest.raises(TokenizerError, match="a normalizer of at most 100 parts, found more"):
        load_tokenizer(folder)
    for _ in range(40):
        plain = {"type": "Sequence", "normalizers": [plain]}
    change(folder, normalizer=plain)
    with pytest.raises(TokenizerError, match="nested more than 16 deep"):
        load_tokenizer(folder)


def test_a_tokenizer_that_needs_more_than_its_memory(folder: Path) -> None:
    """A table that says it has 4 GB: the library aborts, in a process of its own."""
    table = part("Precompiled", "normalizer", 2)  # its first four bytes are its size
    change(folder, normalizer=table)
    with pytest.raises(TokenizerError, match=r"the tokenizers library died of it .*memory"):
        load_tokenizer(folder)


def test_a_vocabulary_without_the_unknown_token(folder: Path) -> None:
    """It can be exported: ids need no text. A text that it can't read is a PromptError."""
    (folder / "tokenizer_config.json").unlink()
    (folder / "special_tokens_map.json").unlink()
    model = next(each for each in MODELS if each["type"] == "WordPiece")
    change(folder, added_tokens=[], model=model, pre_tokenizer=None, decoder=None)
    tokenizer = load_tokenizer(folder)
    assert encode(tokenizer, "a") == [0]
    with pytest.raises(PromptError, match=r"can't read the text: .*Missing \[UNK\]"):
        encode(tokenizer, "b")


@pytest.mark.parametrize("passing", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_is_not_the_librarys_passes(passing: type[BaseException]) -> None:
    with pytest.raises(passing), library_errors(TokenizerError, "a file"):
        raise passing


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", '{"a": -1}', "expected token ids from 0 up, found -1 for 'a'"),
        ("vocab.json", '{"a": 4294967296}', "found 4294967296 for 'a'"),
        ("vocab.json", '{"a": "1"}', "found '1' for 'a'"),
        ("vocab.json", '{"a": true}', "found True for 'a'"),
        ("vocab.json", '{"\\ud800": 1}', "half a surrogate pair"),
        ("vocab.json", "[" * 100_000, "nested too deeply"),
        ("merges.txt", "#version: 0.2\na b c\n", "two tokens on line 2, found 'a b c'"),
        ("merges.txt", "a\n", "two tokens on line 1, found 'a'"),
        ("added_tokens.json", '{"<x>": "y"}', "expected token ids, found 'y'"),
        ("added_tokens.json", '{"<x>": -1}', "expected token ids, found -1"),
        ("special_tokens_map.json", '{"bos_token": 5}', "bos_token: expected a token"),
        ("special_tokens_map.json", '{"pad_token": {"content": "p", "lstrip": 1}}', "flags that"),
        ("tokenizer_config.json", '{"extra_special_tokens": 5}', "expected a list of tokens"),
        ("tokenizer_config.json", '{"additional_special_tokens": "<x>"}', "a list of tokens"),
        ("tokenizer_config.json", '{"additional_special_tokens": [[]]}', "expected a token"),
        ("tokenizer_config.json", '{"added_tokens_decoder": []}', "expected an object"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": "a"}}', "expected token ids"),
        ("tokenizer_config.json", '{"add_prefix_space": "no"}', "expected true or false"),
        ("tokenizer_config.json", '{"add_bos_token": 1}', "expected true or false"),
        (
            "tokenizer_config.json",
            '{"add_bos_token": true, "bos_token": "<x>"}',
            "isn't in the voc",
        ),
        ("tokenizer_config.json", '{"tokenizer_class": 5}', "tokenizer_class: expected a text"),
    ],
)
def test_values_that_are_none(folder: Path, name: str, content: str, message: str) -> None:
    for other in set(TOKENIZER_FILES) - {"vocab.json", "merges.txt"}:
        (folder / other).unlink(missing_ok=True)
    (folder / name).write_text(content)
    with pytest.raises(TokenizerError, match=message.replace("[", r"\[")):
        load_tokenizer(folder)
