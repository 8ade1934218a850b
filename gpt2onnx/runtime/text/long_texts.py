"""Encodes long texts in pieces, with the same ids; and the fewest ids that a text can have.

`tokenizers` takes some 200 bytes of memory for each character that it encodes at once. GPT-2's
tokenizer splits a text by a regular expression first, which always parts two words at the space
between them; so there a text can be cut without changing a token.

Knows tokenizers; knows no model.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any, Final

import tokenizers
from tokenizers import models, pre_tokenizers

from gpt2onnx.tokenizer.codec import encode

# Characters of a text that is encoded at once, whatever the tokenizer.
_LONG: Final = 65_536
# Where " ?\p{L}+" ends at one letter and begins again.
_BETWEEN_WORDS: Final = re.compile("(?<=[a-z])(?= [a-z])")


class LongTexts:
    """Encodes texts of any length with one tokenizer."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """The ids that the tokenizer makes of a text. Raises PromptError."""
        if len(text) <= _LONG or not self._is_gpt2s:
            return encode(self._tokenizer, text)
        return [id_ for piece in _pieces(text) for id_ in encode(self._tokenizer, piece)]

    def fewest(self, text: str) -> int:
        """A number of tokens that a text has at least, known without encoding it; 0 for a short."""
        if len(text) <= _LONG or not self._is_gpt2s:
            return 0
        return -(-len(text.encode()) // self._longest)

    @cached_property
    def _longest(self) -> int:
        """Bytes of the longest token."""
        added = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
        vocabulary = self._tokenizer.get_vocab()
        return max(len(each.encode()) if each in added else len(each) for each in vocabulary)

    @cached_property
    def _is_gpt2s(self) -> bool:
        """Whether this is a tokenizer of GPT-2's kind: nothing is normalized, lost or added."""
        tokenizer = self._tokenizer
        if not isinstance(tokenizer.model, models.BPE) or tokenizer.normalizer is not None:
            return False
        added = tokenizer.get_added_tokens_decoder().values()
        return (
            _state(tokenizer.pre_tokenizer).get("type") == "ByteLevel"
            and _state(tokenizer.pre_tokenizer).get("use_regex", True)
            and _state(tokenizer.post_processor).get("type", "ByteLevel") == "ByteLevel"
            and tokenizer.truncation is None
            and tokenizer.padding is None
            and tokenizer.get_vocab().keys() >= set(pre_tokenizers.ByteLevel.alphabet())
            and not any(token.rstrip or " " in token.content for token in added)
        )


def _pieces(text: str) -> list[str]:
    """A text in pieces of about _LONG characters, or longer where no words part."""
    cuts = [0]
    while found := _BETWEEN_WORDS.search(text, cuts[-1] + _LONG):
        cuts.append(found.start())
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _state(part: Any) -> dict[str, Any]:
    """What a part of a tokenizer is, as tokenizer.json says it; {} where there is none."""
    return {} if part is None else dict(json.loads(part.__getstate__()))
