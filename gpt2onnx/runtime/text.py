"""Tokens to text, one token at a time: whole characters only, and never a part of a stop string.

The pieces joined are the text of the continuation, whatever the borders of the tokens. Knows
tokenizers and strings; nothing of models, prompts' text or when to stop for other reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

from gpt2onnx.errors import ParameterError
from gpt2onnx.tokenizer.codec import decode

if TYPE_CHECKING:
    from tokenizers import Tokenizer

REPLACEMENT = "\ufffd"

# Tokens decoded again beside a new one. Most decoders treat only the first token of a text
# differently, so one would do. Bytes need four: UTF-8 characters are at most four bytes long, so a
# decoder that starts within one is in step with the text after three, and the fourth is read alike.
CONTEXT = 4


class TextStream:
    """Shows a continuation's text as its tokens come.

    The pieces that `push` and `finish` return, joined, are `tokenizer.decode(ids,
    skip_special_tokens=True)`, cut before the stop string that is complete first; of several that
    end at the same character, before the longest. Where a text would be cut therefore depends on
    the text alone, not on the borders of tokens.

    `prompt_ids` are the tokens that the continuation follows. Their text isn't shown, but it
    decides how the first new token reads: as " word" after a word for a tokenizer that joins words
    with spaces, and as the rest of a character that the prompt's last token began. Stop strings
    are looked for in the continuation alone.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop_strings: str | Sequence[str] = (),
        prompt_ids: Sequence[int] = (),
    ) -> None:
        self._detokenizer = _Detokenizer(tokenizer, prompt_ids)
        self._stops = _StopStrings(
            [stop_strings] if isinstance(stop_strings, str) else stop_strings
        )

    def fork(self) -> TextStream:
        """A stream with the same text so far, which goes its own way from here."""
        fork = copy(self)
        fork._detokenizer, fork._stops = self._detokenizer.fork(), copy(self._stops)
        return fork

    @property
    def stopped(self) -> bool:
        """Whether a stop string has occurred; nothing more is shown then."""
        return self._stops.found

    def push(self, token_id: int) -> str:
        """The text that is safe to show now that this token has come, often "" or several words."""
        return "" if self.stopped else self._stops.push(self._detokenizer.push(token_id))

    def finish(self) -> str:
        """The text held back so far: no token comes after this."""
        return "" if self.stopped else self._stops.finish(self._detokenizer.finish())


class _Detokenizer:
    """Text that no later token can change, by decoding the last few tokens only.

    Of a byte-level text only a last U+FFFD can still change: it may be bytes of a character whose
    rest is to come, which decoding replaces as one ("maximal subpart", Unicode 16.0, chapter 3.9).
    A ByteFallback decoder reads a run of byte tokens as a whole and, where it isn't UTF-8, as one
    U+FFFD a byte; such a run is held back until another token ends it.

    `tokenizers.decoders.DecodeStream` waits while the text ends in U+FFFD, for ever and decoding
    everything again if a model keeps emitting stray bytes, and can't be told that the text is over.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._silent = {
            id_ for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special
        }
        self._byte_tokens = _byte_fallback_tokens(tokenizer)
        self._context = self._tail(prompt_ids)
        self._pending: list[int] = []
        # A last U+FFFD of the prompt is the prompt's, unless a new token makes it a character.
        self._echo = self._decode(self._context).endswith(REPLACEMENT)

    def fork(self) -> _Detokenizer:
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
        """Whether a token has any text: not a special one, nor one the tokenizer doesn't have."""
        return id_ not in self._silent and bool(self._tokenizer.id_to_token(id_))

    def _decode(self, ids: list[int]) -> str:
        return decode(self._tokenizer, ids, skip_special_tokens=True)


class _StopStrings:
    """Passes text on, holding back what may be the beginning of a stop string."""

    def __init__(self, strings: Sequence[str]) -> None:
        if not all(isinstance(string, str) and string for string in strings):
            raise ParameterError(f"stop_strings must be texts that aren't empty, got {strings!r}")
        self._strings = tuple(strings)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        text = self._held + text
        ends = [
            (start + len(string), start)
            for string in self._strings
            if (start := text.find(string)) >= 0
        ]
        if ends:
            self.found = True
            return text[: min(ends)[1]]
        shown = len(text) - self._beginning(text)
        self._held = text[shown:]
        return text[:shown]

    def finish(self, text: str) -> str:
        shown = self.push(text)
        return shown if self.found else shown + self._held

    def _beginning(self, text: str) -> int:
        """Length of the longest end of the text that is the beginning of a stop string."""
        longest = max(map(len, self._strings), default=1) - 1
        return next(
            (
                length
                for length in range(min(longest, len(text)), 0, -1)
                if any(string.startswith(text[-length:]) for string in self._strings)
            ),
            0,
        )


def _settled(text: str) -> str:
    """The text without a last U+FFFD, which may be a character still to come."""
    return text.removesuffix(REPLACEMENT)


def _byte_fallback_tokens(tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens <0x00> to <0xFF> of a tokenizer that decodes them as bytes."""
    if tokenizer.decoder is None or b'"ByteFallback"' not in tokenizer.decoder.__getstate__():
        return frozenset()
    ids = (tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
    return frozenset(id_ for id_ in ids if id_ is not None)
