"""Prompts: what becomes token ids, what is refused, and what is kept of a long one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from gpt2onnx import GenerationParams, Model
from gpt2onnx.errors import PromptError, PromptTooLongError, TokenRangeError
from gpt2onnx.runtime.text.prompts import PromptReader, is_batch
from tests.checkpoints import END_OF_TEXT_ID
from tests.raising import raises

VOCAB, N_POSITIONS = 257, 16


@pytest.fixture(scope="module")
def tokenizer(models: Callable[[str], Path]) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(models("fp32") / "tokenizer.json"))


@pytest.fixture
def reader(tokenizer: tokenizers.Tokenizer) -> PromptReader:
    return PromptReader(tokenizer, VOCAB, N_POSITIONS, END_OF_TEXT_ID)


@pytest.mark.parametrize(
    "prompt",
    [
        [1, 2, 256],
        (1, 2, 256),
        [np.int32(1), np.uint8(2), np.int64(256)],
        np.array([1, 2, 256]),
        np.array([1, 2, 256], np.uint16),
        np.array([1, 2, 256], np.int32)[::1],
    ],
    ids=repr,
)
def test_token_ids(reader: PromptReader, prompt: Any) -> None:
    ids = reader.read(prompt)
    assert ids.dtype == np.int64
    assert ids.tolist() == [1, 2, 256]


def test_a_range_is_token_ids(reader: PromptReader) -> None:
    assert reader.read(range(3)).tolist() == [0, 1, 2]


def test_a_text(reader: PromptReader, tokenizer: tokenizers.Tokenizer) -> None:
    assert reader.read("héllo <|endoftext|>").tolist() == [
        *tokenizer.encode("héllo ").ids,
        END_OF_TEXT_ID,
    ]


def test_what_is_given_is_not_kept(reader: PromptReader) -> None:
    given = np.array([1, 2])
    ids = reader.read(given)
    given[0] = 99
    assert ids.tolist() == [1, 2]


@pytest.mark.parametrize("empty", ["", [], (), np.array([], np.int64), np.array([])], ids=repr)
def test_an_empty_prompt_starts_from_bos(
    reader: PromptReader, tokenizer: tokenizers.Tokenizer, empty: Any
) -> None:
    assert reader.read(empty).tolist() == [END_OF_TEXT_ID]
    assert reader.encode(empty).tolist() == []
    for bos in (None, VOCAB):
        without = PromptReader(tokenizer, VOCAB, N_POSITIONS, bos)
        with pytest.raises(PromptError, match=f"no BOS token to start from .*={bos}, voc.* 257"):
            without.read(empty)


@pytest.mark.parametrize(
    "ids",
    [
        *([257, 1], [-1], [-5, 999], [2**70], [10**400], [-(10**5000)], [2**63, -1], [2**64]),
        *(np.array([2**63], np.uint64), np.array([-1], np.int8)),
    ],
)
def test_ids_out_of_range(reader: PromptReader, ids: Any) -> None:
    """The first of them is told."""
    with raises(TokenRangeError, found=ids[0], expected=256):
        reader.read(ids)


def test_an_id_out_of_range_is_named(reader: PromptReader) -> None:
    with pytest.raises(TokenRangeError, match="token id 257: expected 0 to 256, the model's voc"):
        reader.read([1, 257])


@pytest.mark.parametrize(
    "prompt",
    [
        [1.0, 2.0],
        np.array([1.0]),
        [True, False],
        [1, True],
        np.array([True]),
        [1, "a"],
        [1, None],
        [1, [2, 3]],
        [[1, 2]],
        np.array([[1, 2]]),
        np.array(5),
        np.zeros((1, 1, 1), np.int64),
        5,
        None,
        b"bytes",
        {"text": 1},
        {1, 2},
        (n for n in range(3)),
        map(int, "12"),
    ],
)
def test_what_is_neither_a_text_nor_ids(model: Model, reader: PromptReader, prompt: Any) -> None:
    with pytest.raises(PromptError, match="expected a text, or token ids in a list") as raised:
        reader.read(prompt)
    assert "\n" not in str(raised.value)
    if not is_batch(prompt):
        with raises(PromptError, name="prompt"):
            model.generate(prompt)


def test_a_batch_of_what_is_no_prompt(model: Model) -> None:
    for batch in (["a", 5], [[1], None], [[[1]]], [["a"]]):
        with raises(PromptError, name="prompt"):
            model.generate(batch)


def test_half_a_surrogate_pair(reader: PromptReader) -> None:
    """What Python makes of an argument that isn't UTF-8."""
    with pytest.raises(PromptError, match="can't be written as UTF-8"):
        reader.read(b"caf\xe9".decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("prompt", "batch"),
    [
        ("text", False),
        ("", False),
        ([1, 2], False),
        (np.array([1, 2]), False),
        (np.int64(1), False),
        ([], True),
        (["a"], True),
        (("a", "b"), True),
        ([[1], [2, 3]], True),
        ([np.array([1])], True),
        (["a", [1]], True),
        ([[]], True),
        (np.array([[1, 2], [3, 4]]), True),
        (np.zeros((0, 3), np.int64), True),
    ],
)
def test_one_prompt_or_several(prompt: Any, batch: bool) -> None:
    assert is_batch(prompt) is batch


def params(**parameters: Any) -> GenerationParams:
    return GenerationParams.create(parameters)


def test_a_prompt_of_all_positions_fits(reader: PromptReader) -> None:
    ids = np.arange(N_POSITIONS)
    for overflow in ("error", "slide"):
        assert reader.fit(ids, params(overflow=overflow)).tolist() == ids.tolist()


def test_a_longer_prompt_is_refused(reader: PromptReader) -> None:
    with pytest.raises(PromptTooLongError, match="prompt has 17 tokens, the model 16 positions"):
        reader.fit(np.arange(17), params())


@pytest.mark.parametrize(
    ("length", "max_new_tokens", "kept"),
    [
        (17, 4, 12),  # what max_new_tokens leaves
        (14, 4, 12),
        (12, 4, 12),
        (5, 4, 5),
        (17, 8, 8),
        (17, 9, 8),  # but not less than half
        (17, 1000, 8),
        (3, 1000, 3),
    ],
)
def test_truncation_keeps_the_end(
    reader: PromptReader, length: int, max_new_tokens: int, kept: int
) -> None:
    given = params(overflow="truncate", max_new_tokens=max_new_tokens)
    assert reader.fit(np.arange(length), given).tolist() == list(range(length))[-kept:]


def test_a_total_length_leaves_room_for_a_token(reader: PromptReader) -> None:
    for length in (15, 16, 17, 40):
        fitted = reader.fit(np.arange(length), params(overflow="truncate", max_length=16))
        assert fitted.tolist() == list(range(length))[-15:]


def test_a_slide_keeps_the_newest_half(reader: PromptReader) -> None:
    assert reader.fit(np.arange(40), params(overflow="slide")).tolist() == list(range(32, 40))


def test_what_comes_after_long_prompts(model: Model) -> None:
    """The model has 64 positions: a last token more than that can be written, none after it."""
    ids = np.arange(100)
    with raises(PromptTooLongError, found=100, expected=64):
        model.generate(ids)
    settings: dict[str, Any] = {"max_new_tokens": 20, "eos_token_id": None}
    truncated = model.generate(ids, overflow="truncate", **settings)
    assert (truncated.finish_reason, len(truncated.token_ids)) == ("length", 20)
    assert truncated == model.generate(ids[-44:], **settings)
    ended = model.generate(ids[:60], **settings)
    assert (ended.finish_reason, len(ended.token_ids)) == ("context", 5)
    slid = model.generate(ids[:60], overflow="slide", **settings)
    assert (slid.finish_reason, len(slid.token_ids)) == ("length", 20)
    assert slid.token_ids[:5] == ended.token_ids
    assert model.generate(ids, overflow="slide", **settings).prompt_token_ids == list(
        range(68, 100)
    )


@pytest.mark.parametrize(
    "prompt",
    [
        *(None, 3, 1.5, True, {}, {"a": 1}, {1, 2}, b"a", object(), [None], [True], [1.0]),
        *(np.array([1.0]), np.array(3), np.array(["a"]), np.zeros((1, 1, 1)), [[[1]]], [1, "a"]),
        *(np.array([True]), np.array([None]), "\ud800"),
    ],
)
def test_what_is_no_prompt(model: Model, prompt: Any) -> None:
    for call in (model.generate, model.stream, model.score):
        with pytest.raises(PromptError):
            call(prompt)
    if prompt is not None:
        with pytest.raises(PromptError):
            model.generate("a", negative_prompt=prompt, guidance_scale=2)
