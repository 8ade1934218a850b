"""Tokens to text, one token at a time: whole characters only.

The pieces joined are the text of the continuation, whatever the borders of the tokens. Knows
tokenizers; nothing of models, prompts' text or stop strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING

from gpt2onnx.tokenizer.codec import decode

if TYPE_CHECKING:
    from tokenizers import Tokenizer

REPLACEMENT = "\ufffd"

# Tokens decoded again beside a new one. Most decoders treat only the first token of a text
# differently, so one would do. Bytes need four: UTF-8 characters are at most four bytes long, so a
# decoder that starts within one is in step with the text after three, and the fourth is read alike.
CONTEXT = 4


class Decoding:
    """A tokenizer's decoding, which remembers the newest: two readers of one text cost as one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder().items()
        # The special tokens, whose text isn't shown, and that text.
        self.special = {id_: token.content for id_, token in added if token.special}
        self.byte_tokens = _byte_fallback_tokens(tokenizer)
        self.text = lru_cache(maxsize=8)(self._decode)

    def has_text(self, id_: int) -> bool:
        """Whether the tokenizer has the token; a model's vocabulary may go beyond it."""
        return bool(self._tokenizer.id_to_token(id_))

    def _decode(self, ids: tuple[int, ...]) -> str:
        return decode(self._tokenizer, ids)


class Detokenizer:
    """Text that no later token can change, by decoding the last few tokens only.

    Of a byte-level text only a last U+FFFD can still change: it may be bytes of a character whose
    rest is to come, which decoding replaces as one ("maximal subpart", Unicode 16.0, chapter 3.9).
    A ByteFallback decoder reads a run of byte tokens as a whole and, where it isn't UTF-8, as one
    U+FFFD a byte; such a run is held back until another token ends it.

    `tokenizers.decoders.DecodeStream` waits while the text ends in U+FFFD, for ever and decoding
    everything again if a model keeps emitting stray bytes, and can't be told that the text is over.
    """

    def __init__(
        self, decoding: Decoding, prompt_ids: Sequence[int], skip_special_tokens: bool = True
    ) -> None:
        self._decoding = decoding
        self._silent = decoding.special if skip_special_tokens else {}
        self._byte_tokens = decoding.byte_tokens
        self._context = self._tail(prompt_ids)
        self._pending: list[int] = []
        # A last U+FFFD of the prompt is the prompt's, unless a new token makes it a character.
        self._echo = self._decode(self._context).endswith(REPLACEMENT)

    def fork(self) -> Detokenizer:
        fork = copy(self)
        fork._pending = self._pending.copy()
        return fork

    def push(self, token_id: int) -> str:
        if not self._speaks(token_id):
            return ""
        self._pending.append(token_id)
        return "" if token_id in self._byte_tokens else self._advance()

    def finish(self) -> str:
        shown = len(_settled(self._decode(self._context)))
        return self._own(self._decode(self._context + self._pending)[shown:])

    def _advance(self) -> str:
        """Decode what is pending, and return what is settled."""
        ids = self._context + self._pending
        shown = len(_settled(self._decode(self._context)))
        self._context, self._pending = ids[-CONTEXT:], []
        return self._own(_settled(self._decode(ids))[shown:])

    def _own(self, text: str) -> str:
        """The text without the prompt's own U+FFFD."""
        if text and self._echo:
            self._echo = False
            return text.removeprefix(REPLACEMENT)
        return text

    def _tail(self, ids: Sequence[int]) -> list[int]:
        """The last tokens that decoding has to see, and the whole of a run of byte tokens."""
        tail: list[int] = []
        for id_ in reversed(ids):
            if len(tail) >= CONTEXT and tail[-1] not in self._byte_tokens:
                break
            if self._speaks(id_):
                tail.append(id_)
        return tail[::-1]

    def _speaks(self, id_: int) -> bool:
        """Whether a token has any text: not one that is skipped, or that the tokenizer lacks."""
        return id_ not in self._silent and self._decoding.has_text(id_)

    def _decode(self, ids: list[int]) -> str:
        return self._decoding.text(tuple(ids))


def _settled(text: str) -> str:
    """The text without a last U+FFFD, which may be a character still to come."""
    return text.removesuffix(REPLACEMENT)


def _byte_fallback_tokens(tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens <0x00> to <0xFF> of a tokenizer that decodes them as bytes."""
    if tokenizer.decoder is None or b'"ByteFallback"' not in tokenizer.decoder.__getstate__():
        return frozenset()
    ids = (tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
    return frozenset(id_ for id_ in ids if id_ is not None)
