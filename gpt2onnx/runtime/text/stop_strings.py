"""A text as its tokens come, which never shows a part of a stop string.

Stop strings are looked for in the text with special tokens, as transformers does; special tokens
aren't shown. So there are two texts of the same tokens, and which token ends where in each leads
from a place in the one to the place in the other.

Knows tokenizers and strings; nothing of models, or when to stop for other reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Final

from gpt2onnx.flags import refusal
from gpt2onnx.runtime.text.detokenizer import Decoding, Detokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# In the place of a token held back: what was held of a token that is partly shown; the text's end.
_REST: Final = -1
_END: Final = -2


class TextStream:
    """Shows a continuation's text as its tokens come.

    The pieces that `push` and `finish` return, joined, are `tokenizer.decode(ids,
    skip_special_tokens=True)`, cut before the stop string that is complete first in
    `tokenizer.decode(ids, skip_special_tokens=False)`; of several that end at the same character,
    before the longest. Where a text would be cut therefore depends on the text alone, not on the
    borders of tokens.

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
        prompt = [int(id_) for id_ in prompt_ids]
        self._stops = _StopStrings(
            [stop_strings] if isinstance(stop_strings, str) else stop_strings
        )
        decoding = Decoding(tokenizer)
        self._decoding, self._special = decoding, decoding.special
        self._shown = Detokenizer(decoding, prompt)
        # Without stop strings, the text with special tokens is of no use to anybody.
        self._searched = Detokenizer(decoding, prompt, False) if self._stops.strings else None
        self._held: list[tuple[int, str]] = []  # tokens, and what each added to the searched text
        self._rest = ""  # the text to show for _REST
        self.stopped = False  # whether a stop string has occurred; nothing more is shown then

    def fork(self) -> TextStream:
        """A stream with the same text so far, which goes its own way from here."""
        fork = copy(self)
        fork._shown, fork._held = self._shown.fork(), self._held.copy()
        fork._searched = self._searched and self._searched.fork()
        return fork

    def follow(self, ids: Sequence[int]) -> None:
        """Show nothing of the tokens so far, which are `ids` with the prompt's before them.

        It is as if the continuation began here, but that a stop string may reach back.
        """
        self._shown = Detokenizer(self._decoding, ids)
        self._held, self._rest = [(_REST, "".join(text for _, text in self._held))], ""

    def push(self, token_id: int) -> str:
        """The text that is safe to show now that this token has come, often "" or several words."""
        if self.stopped:
            return ""
        if self._searched is None:
            return self._shown.push(token_id)
        return self._take(token_id, self._searched.push(token_id))

    def finish(self) -> str:
        """The text held back so far: no token comes after this."""
        if self.stopped:
            return ""
        if self._searched is None:
            return self._shown.finish()
        return self._take(_END, self._searched.finish())

    def _take(self, token: int, text: str) -> str:
        """What can be shown once a token has added `text` to the searched one."""
        self._held.append((token, text))
        searched = "".join(text for _, text in self._held)
        start = self._stops.find(searched)
        if start is not None:
            self.stopped = True
            return self._cut(start)
        if token == _END:
            return self._show(len(searched))[0]
        return self._release(len(searched) - self._stops.beginning(searched))

    def _release(self, place: int) -> str:
        """Show what stands before a place in the searched text, and hold the rest."""
        shown, place = self._show(place)
        if place and self._held[0][0] not in self._special:
            token, text = self._held[0]
            decoded = self._decode(token)
            cut = _place(decoded, text, place)
            self._held[0], self._rest = (_REST, text[place:]), decoded[cut:]
            shown += decoded[:cut]
        return shown

    def _cut(self, place: int) -> str:
        """Show what stands before a place in the searched text, and nothing after it."""
        shown, place = self._show(place)
        token, text = self._held[0]
        if token in self._special:  # what tokens before it have left open stays so
            token, text = _END, text.removesuffix(self._special[token])
        decoded = self._decode(token)
        return shown + decoded[: _place(decoded, text, place)]

    def _show(self, place: int) -> tuple[str, int]:
        """Show the tokens that end before a place: their text, and the place in the next one's."""
        shown = ""
        while self._held and len(self._held[0][1]) <= place:
            token, text = self._held.pop(0)
            shown += self._decode(token)
            place -= len(text)
        return shown, place

    def _decode(self, token: int) -> str:
        """What a token that was held back adds to the text that is shown."""
        if token == _REST:
            return self._rest
        return self._shown.finish() if token == _END else self._shown.push(token)


class _StopStrings:
    """Finds stop strings, and what may be the beginning of one."""

    def __init__(self, strings: Sequence[str]) -> None:
        if not all(isinstance(string, str) and string for string in strings):
            raise refusal("stop_strings", strings, "texts that aren't empty")
        self.strings = tuple(strings)

    def find(self, text: str) -> int | None:
        """Where the stop string begins that is complete first, the longest of several."""
        ends = [
            (start + len(string), start)
            for string in self.strings
            if (start := text.find(string)) >= 0
        ]
        return min(ends)[1] if ends else None

    def beginning(self, text: str) -> int:
        """Length of the longest end of the text that is the beginning of a stop string."""
        longest = max(map(len, self.strings)) - 1
        return next(
            (
                length
                for length in range(min(longest, len(text)), 0, -1)
                if any(string.startswith(text[-length:]) for string in self.strings)
            ),
            0,
        )


def _place(shown: str, searched: str, place: int) -> int:
    """The place in a token's shown text of a place in its searched text.

    They differ at their beginnings, if at all: in a space that the first token of a text loses, or
    a character that a special token divides.
    """
    return max(0, len(shown) - max(0, len(searched) - place))
