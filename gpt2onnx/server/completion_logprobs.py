"""The log-probabilities of /v1/completions: four lists, a member for each token.

Of each token the model's own, before penalties and warpers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpt2onnx.runtime.decoding.results import Alternative, Generation, Token
from gpt2onnx.server.asked import AskedPrompt, Options
from gpt2onnx.server.token_texts import TokenTexts


class Listing:
    """The lists of one text.

    `text_offset` is where a token begins in the text: one that completes a character begins where
    that does, and one that a stop string cut off where it would have begun.
    """

    def __init__(
        self, tokens: TokenTexts, count: int, prompt: AskedPrompt, options: Options
    ) -> None:
        """`count` alternatives a token; with `echo` the prompt's tokens are to be among them."""
        self._tokens, self._count, self._prompt = tokens, count, prompt
        self._echo, self._wants_ids = options.echo, options.token_ids
        self._offsets = tokens.offsets(prompt.context, len(prompt.text))
        self._clear()

    def _clear(self) -> None:
        self._names: list[str] = []
        self._logprobs: list[float | None] = []
        self._top: list[dict[str, float] | None] = []
        self._places: list[int] = []
        self._ids: list[dict[str, int] | None] = []

    def add_written(self, written: Generation) -> None:
        """All tokens of a text, behind the prompt's where it is echoed."""
        if self._echo and not self._prompt.is_empty:
            self._add_prompt(written)
        rows = written.alternatives or [()] * len(written.token_ids)
        for token, logprob, row in zip(written.token_ids, written.logprobs, rows, strict=True):
            self._add(token, logprob, row, self._offsets.push(token))

    def only(self, token: Token) -> dict[str, Any]:
        """The lists of one token, the next one."""
        self._clear()
        self._add(token.id, token.logprob, token.alternatives, self._offsets.push(token.id))
        return self.as_object()

    def as_object(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        lists: dict[str, Any] = {
            "tokens": self._names,
            "token_logprobs": self._logprobs,
            "top_logprobs": self._top,
            "text_offset": self._places,
        }
        return lists | {"top_token_ids": self._ids} if self._wants_ids else lists

    def _add_prompt(self, written: Generation) -> None:
        """The prompt's tokens; of the first one nothing says how probable it is."""
        ids, logprobs = written.prompt_token_ids, written.prompt_logprobs or []
        rows = written.prompt_alternatives or [()] * len(logprobs)
        offsets = self._tokens.offsets([], 0, special=True)
        self._add(ids[0], None, (), offsets.push(ids[0]))
        for token, logprob, row in zip(ids[1:], logprobs, rows, strict=True):
            self._add(token, logprob, row, offsets.push(token))

    def _add(
        self, token: int, logprob: float | None, row: Sequence[Alternative], place: int
    ) -> None:
        name = self._tokens.name(token)
        self._names.append(name)
        self._logprobs.append(logprob)
        self._places.append(place)
        if logprob is None:
            self._top.append(None)
            self._ids.append(None)
            return
        top: dict[str, tuple[int, float]] = {}
        for each in row[: self._count]:  # of two with one name the more probable one
            top.setdefault(self._tokens.name(each.id), (each.id, each.logprob))
        top.setdefault(name, (token, logprob))
        self._top.append({named: value for named, (_, value) in top.items()})
        self._ids.append({named: id_ for named, (id_, _) in top.items()})
