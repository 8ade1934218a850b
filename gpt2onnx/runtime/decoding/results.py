"""What a model gives back: tokens as they come, whole generations, scores.

Plain data; knows nothing of how it came about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gpt2onnx.runtime.decoding.sequence import FinishReason

if TYPE_CHECKING:
    from gpt2onnx.runtime.decoding.speculation import SpeculationStats


class Alternative(NamedTuple):
    """A token that could have come, and its log-probability: where it stands says whose."""

    id: int
    text: str
    logprob: float


class Token(NamedTuple):
    """A new token as it comes.

    `text` is what may be shown now: a token can end in the middle of a character or of a stop
    string, so the pieces, not the tokens, make up the text. `alternatives` are the most probable
    tokens to the model itself, where they were asked for, and `processed_alternatives` those after
    penalties and warpers, fewer where these leave fewer; `speculation` comes with a
    sequence's last token, where there were drafts. `sequence` numbers those of a call: prompt by
    prompt, and of each prompt draw by draw. `logprob` is the model's own, `processed_logprob` the
    one after penalties and warpers; `entropy` is the model's own, in nats, where it was asked for.
    """

    id: int
    text: str
    logprob: float
    finish_reason: FinishReason | None
    alternatives: tuple[Alternative, ...] = ()
    speculation: SpeculationStats | None = None
    sequence: int = 0
    processed_logprob: float | None = None
    entropy: float | None = None
    processed_alternatives: tuple[Alternative, ...] = ()


@dataclass
class Generation:
    """What was written after a prompt.

    `token_ids` and `logprobs` are the new tokens', an end token included; `text` is without special
    tokens and ends before a stop string. `logprobs` are the model's own: before penalties and
    warpers; `processed_logprobs` are those after them, in the distribution that each token was
    chosen from, and a beam search, which chooses whole texts, has none. `alternatives` and
    `processed_alternatives` are a tuple a token, as a Token's, with the same exception; without
    asking, of nothing. `prompt_logprobs`, where
    they were asked for, are the model's own of each prompt token but the first, and
    `prompt_alternatives` what was most probable in its place. `prefill_ids` are the tokens that
    were given, between the prompt's and the new ones. `score` is a beam
    search's, transformers' sequences_scores: the log-probabilities after penalties and warpers,
    summed and divided by their count to the power of length_penalty. `speculation` says how well
    drafts did, where they were asked for.
    """

    prompt_token_ids: list[int]
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    score: float | None = None
    alternatives: list[tuple[Alternative, ...]] = field(default_factory=list)
    speculation: SpeculationStats | None = None
    processed_logprobs: list[float] = field(default_factory=list)
    prompt_logprobs: list[float] | None = None
    processed_alternatives: list[tuple[Alternative, ...]] = field(default_factory=list)
    prompt_alternatives: list[tuple[Alternative, ...]] = field(default_factory=list)
    prefill_ids: list[int] = field(default_factory=list)

    @property
    def mean_logprob(self) -> float:
        """The mean of `logprobs`: how likely the text is to the model, whatever its length.

        0 where there are none.
        """
        return sum(self.logprobs) / max(1, len(self.logprobs))

    def add(self, token: Token) -> None:
        """Take in the next token."""
        self.text += token.text
        self.token_ids.append(token.id)
        self.logprobs.append(token.logprob)
        if token.processed_logprob is not None:
            self.processed_logprobs.append(token.processed_logprob)
            self.processed_alternatives.append(token.processed_alternatives)
        self.finish_reason = token.finish_reason
        self.alternatives.append(token.alternatives)
        self.speculation = token.speculation


@dataclass(frozen=True)
class Score:
    """The log-probabilities (natural) that a model gives to a text's own tokens.

    `utf8_bytes` is the length of the text that was scored; `alternatives` are what was most
    probable in each token's place, where that was asked for.
    """

    token_ids: list[int]
    logprobs: list[float]
    utf8_bytes: int
    alternatives: list[tuple[Alternative, ...]] = field(default_factory=list)

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-probability of a token."""
        return math.exp(-sum(self.logprobs) / len(self.logprobs))

    @property
    def bits_per_byte(self) -> float:
        """Negative log2-probability a byte of UTF-8: comparable across tokenizers."""
        return -sum(self.logprobs) / math.log(2) / self.utf8_bytes
