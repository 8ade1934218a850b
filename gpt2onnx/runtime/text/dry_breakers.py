"""Finds the tokens that contain DRY's sequence breakers.

Knows a tokenizer; knows nothing of what the tokens are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import tokenizers

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.tokenizer.codec import decode_each


class BreakerFinder:
    """Finds tokens by what stands in their texts, read once: a tenth of a second for GPT-2's."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size

    def ids(self, breakers: Sequence[str | int]) -> tuple[int, ...]:
        """The tokens that hold any of the texts among `breakers`, and those named by their ids.

        Where '."' is one token, '"' finds it too. Raises ParameterError for a text that several
        tokens make up. A single byte that no token holds never comes up, and finds none.
        """
        found = {breaker for breaker in breakers if isinstance(breaker, int)}
        for breaker in breakers:
            if isinstance(breaker, str):
                found.update(self._holding(breaker))
        return tuple(sorted(found))

    def _holding(self, breaker: str) -> list[int]:
        ids = [token for token, text in enumerate(self._texts) if breaker in text]
        if not ids and len(breaker.encode()) > 1:
            raise ParameterError(
                Given("dry_sequence_breakers"),
                f" holds {breaker!r}, which no token holds whole: expected shorter texts, or "
                "token ids",
            )
        return ids

    @cached_property
    def _texts(self) -> list[str]:  # [vocab]
        return decode_each(self._tokenizer, range(self._vocab_size))
