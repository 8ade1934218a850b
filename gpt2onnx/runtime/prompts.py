"""Prompts: what a caller gives becomes token ids that the model can take.

Knows the tokenizer, the vocabulary's size and the number of positions; knows no decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import tokenizers
from numpy.typing import NDArray

from gpt2onnx.errors import PromptError, PromptTooLongError, TokenRangeError
from gpt2onnx.runtime.decoder import Ids
from gpt2onnx.runtime.generation import kept_by_slide
from gpt2onnx.samplers import GenerationParams

Prompt: TypeAlias = str | Sequence[int] | NDArray[np.integer[Any]]


def is_batch(prompt: Prompt | Sequence[Prompt]) -> TypeGuard[Sequence[Prompt]]:
    """Whether this is a list of prompts and not one prompt, a string or token ids.

    An empty list is a list of no prompts; the empty prompt is the empty string.
    """
    if isinstance(prompt, str):
        return False
    if isinstance(prompt, np.ndarray):
        return prompt.ndim == 2
    return len(prompt) == 0 or not isinstance(prompt[0], int | np.integer)


@dataclass(frozen=True)
class PromptReader:
    """Reads prompts for one model."""

    tokenizer: tokenizers.Tokenizer
    vocab_size: int
    n_positions: int
    bos_token_id: int | None

    def read(self, prompt: Prompt) -> Ids:
        """Token ids [n], n >= 1, of a text or of ids; an empty prompt starts from BOS.

        Errors: TokenRangeError for an id that the model doesn't have, PromptError for what is neither
        text nor ids, or empty where the model has no BOS.
        """
        if isinstance(prompt, str):
            ids = np.array(self.tokenizer.encode(prompt).ids, np.int64)
        else:
            ids = self._checked(prompt)
        return ids if len(ids) else self.start()

    def start(self) -> Ids:
        """The BOS token alone: [1]."""
        if self.bos_token_id is None or self.bos_token_id >= self.vocab_size:
            raise PromptError(
                f"the prompt is empty and the model has no BOS token (bos_token_id="
                f"{self.bos_token_id}, vocabulary {self.vocab_size}): give at least one token"
            )
        return np.array([self.bos_token_id], np.int64)

    def fit(self, ids: Ids, params: GenerationParams) -> Ids:
        """The part of a prompt that generation starts from, as `params.overflow` says.

        "truncate" keeps the end, short enough for max_new_tokens where that leaves half of the
        positions to the prompt; "slide" keeps what a slide past the last position would have kept.

        Errors: PromptTooLongError for a prompt longer than n_positions with overflow="error".
        """
        if params.overflow == "truncate":
            room = self.n_positions - params.max_new_tokens
            return ids[-max(room, kept_by_slide(self.n_positions)) :]
        if len(ids) <= self.n_positions:
            return ids
        if params.overflow == "slide":
            return ids[-kept_by_slide(self.n_positions) :]
        raise PromptTooLongError(
            f"the prompt has {len(ids)} tokens, the model {self.n_positions} positions: shorten it, "
            "or set overflow='truncate' to keep its end, or overflow='slide' to read on past them"
        )

    def _checked(self, prompt: Sequence[int] | NDArray[np.integer[Any]]) -> Ids:
        ids = np.asarray(prompt)
        if ids.size and (ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer)):
            raise PromptError(
                f"expected a text or token ids [n], got an array {list(ids.shape)} of {ids.dtype}"
            )
        wrong = ids[(ids < 0) | (ids >= self.vocab_size)]
        if wrong.size:
            raise TokenRangeError(
                f"token id {wrong[0]}: expected 0 to {self.vocab_size - 1}, the model's vocabulary"
            )
        return ids.astype(np.int64)
