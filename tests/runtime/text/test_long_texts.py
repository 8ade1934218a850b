"""Long texts in pieces: compared with tokenizers' encoding of everything at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from gpt2onnx.errors import PromptTooLongError
from gpt2onnx.runtime.text import long_texts
from gpt2onnx.runtime.text.long_texts import LongTexts
from gpt2onnx.runtime.text.prompts import PromptReader
from gpt2onnx.samplers import GenerationParams
from tests.runtime.text.test_stop_strings import (
    _byte_symbol,
    byte_tokenizer,
    gpt2_tokenizer,
    wordpiece_tokenizer,
)

WORDS = ["word", "x", " ", "  ", "\n", "\t", "é", "你", "'s", " the", "!", "12", "<|endoftext|>"]


def own_byte_tokenizer() -> Tokenizer:
    """GPT-2's without merges, to be changed: a token a byte, and a special one (256)."""
    tokenizer = Tokenizer(models.BPE({_byte_symbol(byte): byte for byte in range(256)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=80), st.integers(1, 30))
def test_pieces_make_the_same_tokens(words: list[str], size: int) -> None:
    tokenizer, text = gpt2_tokenizer(), "".join(words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_texts, "_LONG", size)
        assert LongTexts(tokenizer).encode(text) == tokenizer.encode(text).ids
        assert LongTexts(tokenizer).fewest(text) <= len(tokenizer.encode(text).ids)


def test_a_text_is_encoded_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_texts, "_LONG", 10)
    pieces = long_texts._pieces("one two three four. Five six seven")
    assert pieces == ["one two three", " four. Five", " six seven"]


def test_what_is_no_tokenizer_of_gpt2s_kind_reads_everything_at_once() -> None:
    """Where more than the words' borders decides, or a token may be any number of bytes."""
    lower, spaced, right = own_byte_tokenizer(), own_byte_tokenizer(), own_byte_tokenizer()
    lower.normalizer = normalizers.Lowercase()
    spaced.add_tokens(["two words"])
    right.add_tokens([AddedToken("stop", rstrip=True)])
    for tokenizer in (lower, spaced, right, wordpiece_tokenizer(), byte_tokenizer()):
        assert not LongTexts(tokenizer)._is_gpt2s
    assert LongTexts(own_byte_tokenizer())._is_gpt2s


def test_a_prompt_that_must_be_too_long_is_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = own_byte_tokenizer()
    longest = len("<|endoftext|>")
    reader = PromptReader(tokenizer, 257, 1000, 256)
    monkeypatch.setattr(LongTexts, "encode", lambda *args: pytest.fail("was encoded"))
    with pytest.raises(PromptTooLongError, match="has at least 307693 tokens, the model 1000"):
        reader.context("é" * 2_000_000, GenerationParams())
    assert -(-4_000_000 // longest) == 307693


@pytest.mark.parametrize("overflow", ["truncate", "slide"])
def test_a_long_prompt_may_be_cut(overflow: str) -> None:
    reader = PromptReader(own_byte_tokenizer(), 257, 1000, 256)
    text = "some words " * 10_000
    params = GenerationParams(overflow=overflow, max_new_tokens=5)
    ids = reader.context(text, params)
    assert ids.tolist() == reader.fit(reader.read(text), params).tolist()
    assert bytes(ids.tolist()) == text.encode()[-len(ids) :]
