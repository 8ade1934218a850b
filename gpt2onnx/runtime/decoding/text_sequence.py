"""TextSequence: one sequence, the text that its tokens make, and what the text is held to.

Knows token sequences and detokenization; knows no decoder, and nothing of the other sequences.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import tokenizers

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.runtime.decoder.protocol import Ids
from gpt2onnx.runtime.decoding.sequence import TokenSequence
from gpt2onnx.runtime.structured.grammars import Grammar
from gpt2onnx.runtime.text.stop_strings import TextStream
from gpt2onnx.samplers import GenerationParams


class TextSequence:
    """The draw-th sequence of a prompt [n], which a stop string or its grammar's end ends."""

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        params: GenerationParams,
        prompt: Ids,
        index: int,
        draw: int,
        grammar: Grammar | None = None,
    ) -> None:
        self._guide = grammar.guide(len(prompt)) if grammar else None
        constraint = self._guide.mask if self._guide else None
        self.sequence = TokenSequence(index, prompt, params, draw, self._push, constraint)
        self._text = TextStream(tokenizer, params.stop_strings or (), prompt.tolist())
        self._pieces: deque[str] = deque()
        if params.prefill:
            self._begin_with(params.prefill)

    def take(self, last: bool) -> str:
        """What the next token added to the text, and after the last one what was held back.

        Asked once for each token, in their order.
        """
        piece = self._pieces.popleft()
        return piece + self._text.finish() if last else piece

    def _begin_with(self, tokens: Sequence[int]) -> None:
        """Go on behind tokens as if they had been chosen. Raises ParameterError for wrong ones."""
        if self._guide:
            self._guide.require(tokens)
        count = self.sequence.begin_with(tokens)
        if count < len(tokens):
            raise ParameterError(
                *(
                    Given("prefill_ids"),
                    f" has {len(tokens)} tokens, and the text ends with number ",
                ),
                f"{count} of them (finish_reason {self.sequence.finish_reason!r}): expected no "
                "tokens behind its end",
            )
        self._pieces.clear()
        self._text.follow(self.sequence.history.tolist())

    def _push(self, token_id: int) -> bool:
        """Take a token; true where a stop string came up, or nothing may follow."""
        self._pieces.append(self._text.push(token_id))
        complete = self._guide is not None and self._guide.ends(self.sequence.history)
        return complete or self._text.stopped
