"""Single tokens as clients are told of them: by text, or by bytes where those are no text.

Knows a tokenizer; knows no model and no endpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import tokenizers

from gpt2onnx.runtime.text.detokenizer import REPLACEMENT, Decoding, Detokenizer
from gpt2onnx.tokenizer.codec import decode


class TokenTexts:
    """The texts and bytes of a tokenizer's tokens."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoding = Decoding(tokenizer)
        state = tokenizer.decoder.__getstate__() if tokenizer.decoder else b""
        self._is_byte_level = b'"ByteLevel"' in state
        self._added = tokenizer.get_added_tokens_decoder()
        self.name = lru_cache(maxsize=65_536)(self._name)

    def bytes(self, token: int) -> bytes:
        """What a token adds to a text in UTF-8, which may be a part of a character."""
        written = self._tokenizer.id_to_token(token) or ""
        if self._is_byte_level and token not in self._added:
            return bytes(_BYTES[character] for character in written if character in _BYTES)
        if len(written) == 6 and written.startswith("<0x") and token not in self._added:
            return bytes.fromhex(written[3:5])
        return decode(self._tokenizer, [token]).encode()

    def offsets(self, before: Sequence[int], start: int, special: bool = False) -> Offsets:
        """Where tokens begin in a text that goes on from `start` after the tokens `before`.

        `special` says that special tokens are shown in it.
        """
        return Offsets(Detokenizer(self._decoding, before, not special), start)

    def text(self, ids: Sequence[int]) -> str:
        """The text of several, special ones too."""
        return decode(self._tokenizer, ids)

    def _name(self, token: int) -> str:
        """A token's text; bytes that are none as OpenAI writes them: bytes:\\xe2\\x80."""
        text = decode(self._tokenizer, [token])
        if REPLACEMENT in text:
            raw = self.bytes(token)
            if raw != text.encode():
                return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
        return text


class Offsets:
    """Where each token begins in a text, as it comes."""

    def __init__(self, detokenizer: Detokenizer, start: int) -> None:
        self._detokenizer, self._place = detokenizer, start

    def push(self, token: int) -> int:
        """The place of the first character that isn't settled before this token."""
        place = self._place
        self._place += len(self._detokenizer.push(token))
        return place


def _byte_of_each() -> dict[str, int]:
    """GPT-2's characters for bytes: https://github.com/openai/gpt-2, bytes_to_unicode."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {
        **{chr(byte): byte for byte in shown},
        **{chr(256 + place): byte for place, byte in enumerate(hidden)},
    }


_BYTES = _byte_of_each()
