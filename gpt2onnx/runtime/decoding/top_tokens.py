"""TopTokens: the most probable tokens after a text, before and after penalties and warpers.

Knows logits and a tokenizer; knows nothing of how a token is chosen.
"""

from __future__ import annotations

import tokenizers

from gpt2onnx.runtime.decoder.protocol import Ids, Logits
from gpt2onnx.runtime.decoding.results import Alternative
from gpt2onnx.samplers import top_logprobs
from gpt2onnx.samplers.candidates import Left
from gpt2onnx.samplers.params.values import integer_where
from gpt2onnx.tokenizer.codec import decode


class TopTokens:
    """Names the `count` most probable tokens of a row of logits. Raises ParameterError."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, vocab_size: int, count: int) -> None:
        expected = f"an integer from 0 to {vocab_size}, the model's vocabulary"
        check = integer_where(lambda value: 0 <= value <= vocab_size, expected)
        self._tokenizer = tokenizer
        self.count: int = check("top_logprobs", count)

    @property
    def wanted(self) -> bool:
        """Whether any were asked for."""
        return self.count > 0

    def __call__(self, logits: Logits) -> tuple[Alternative, ...]:  # [vocab]
        """The most probable first; none where none were asked for."""
        if not self.count:
            return ()
        return self.named(*top_logprobs(logits, self.count))

    def among(self, left: Left) -> tuple[Alternative, ...]:
        """The same of what penalties and warpers left; fewer where that is fewer."""
        if not self.count:
            return ()
        candidates = left()
        count = min(self.count, len(candidates.ids))
        places, logprobs = top_logprobs(candidates.logits, count)
        return self.named(candidates.ids[places], logprobs)

    def named(self, ids: Ids, logprobs: Logits) -> tuple[Alternative, ...]:  # [n], [n]
        """Tokens with their texts."""
        return tuple(
            Alternative(token, decode(self._tokenizer, [token]), logprob)
            for token, logprob in zip(ids.tolist(), logprobs.tolist(), strict=True)
        )
