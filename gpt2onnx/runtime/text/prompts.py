"""Turns a caller's prompt into token ids that the model can take.

Knows the tokenizer, the vocabulary's size and the number of positions; knows no decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, TypeGuard, cast

import numpy as np
import tokenizers
from numpy.typing import NDArray

from gpt2onnx.errors import Advised, Given, PromptError, PromptTooLongError, TokenRangeError, shown
from gpt2onnx.runtime.decoder.protocol import Ids, kept_by_slide
from gpt2onnx.runtime.text.long_texts import LongTexts
from gpt2onnx.samplers import GenerationParams

Prompt: TypeAlias = str | Sequence[int] | NDArray[np.integer[Any]]


def is_batch(prompt: Prompt | Sequence[Prompt]) -> TypeGuard[Sequence[Prompt]]:
    """Whether this is a list of prompts and not one prompt, a string or token ids.

    An empty list is a list of no prompts; the empty prompt is the empty string.
    """
    if isinstance(prompt, np.ndarray):
        return prompt.ndim == 2
    if isinstance(prompt, str | bytes) or not isinstance(prompt, Sequence):
        return False
    return len(prompt) == 0 or isinstance(prompt[0], Sequence | np.ndarray)


def as_batch(prompt: Prompt | Sequence[Prompt]) -> Sequence[Prompt]:
    """A list of prompts as it is, one prompt as a list of one."""
    return prompt if is_batch(prompt) else [cast(Prompt, prompt)]


@dataclass(frozen=True)
class PromptReader:
    """Reads prompts for one model."""

    tokenizer: tokenizers.Tokenizer
    vocab_size: int
    n_positions: int
    bos_token_id: int | None

    @cached_property
    def _texts(self) -> LongTexts:
        return LongTexts(self.tokenizer)

    def context(self, prompt: Prompt, params: GenerationParams) -> Ids:
        """Token ids [n] that generation starts from; errors as `read` and `fit`.

        A text that is too long however it is encoded is refused without encoding it.
        """
        if isinstance(prompt, str) and params.overflow == "error":
            self._check_text(prompt)
            if (fewest := self._texts.fewest(prompt)) > self.n_positions:
                raise self._too_long(fewest, "at least ")
        return self.fit(self.read(prompt), params)

    def read(self, prompt: Prompt) -> Ids:
        """Token ids [n], n >= 1, of a text or of ids; an empty prompt starts from BOS.

        Raises as `encode` does, and PromptError for an empty prompt where the model has no BOS.
        """
        ids = self.encode(prompt)
        return ids if len(ids) else self.start()

    def negative(self, prompt: Prompt | None, params: GenerationParams) -> Ids | None:
        """Token ids [n] of a negative prompt, where there is one; errors as `read` and `fit`."""
        if prompt is None:
            return None
        if is_batch(prompt):
            raise PromptError(
                Given("negative_prompt"), " is a list: expected one, which all prompts share"
            )
        return self.context(prompt, params)

    def encode(self, prompt: Prompt) -> Ids:
        """Token ids [n] of a text or of ids.

        Raises TokenRangeError for an id that the model doesn't have, PromptError for what is
        neither text nor ids.
        """
        if not isinstance(prompt, str):
            return self._checked(prompt)
        self._check_text(prompt)
        return np.array(self._texts.encode(prompt), np.int64)

    def to_score(self, text: Prompt, add_bos: bool) -> Ids:
        """Token ids [n], n >= 2, all but the first of which can be scored; behind BOS if asked.

        Raises as `encode` and `start` do, and PromptError where nothing is left to be scored.
        """
        ids = self.encode(text)
        if not len(ids):
            raise PromptError("nothing to score: the text is empty")
        if add_bos and ids[0] != (start := self.start())[0]:
            ids = np.concatenate([start, ids])
        if len(ids) < 2:
            raise PromptError("nothing to score: one token alone, with none before it")
        return ids

    def start(self) -> Ids:
        """The BOS token alone: [1]."""
        if self.bos_token_id is None or self.bos_token_id >= self.vocab_size:
            raise PromptError(
                f"the model has no BOS token to start from (bos_token_id={self.bos_token_id}, "
                f"vocabulary {self.vocab_size}): give a prompt of at least one token, or score "
                "with ",
                Advised("add_bos", False),
            )
        return np.array([self.bos_token_id], np.int64)

    def fit(self, ids: Ids, params: GenerationParams) -> Ids:
        """The part of a prompt that generation starts from, as `params.overflow` says.

        "truncate" keeps the end, short enough for max_new_tokens where that leaves half of the
        positions to the prompt; "slide" keeps what a slide past the last position would have kept.

        Raises PromptTooLongError for a prompt longer than n_positions with overflow="error", and
        where the tokens that the text begins with already have no room behind it.
        """
        kept = self._fitting(ids, params)
        if params.prefill and len(kept) + len(params.prefill) > self.n_positions:
            raise PromptTooLongError(
                f"the prompt has {len(kept)} tokens, ",
                Given("prefill_ids"),
                f" {len(params.prefill)}, the model {self.n_positions} positions: shorten either",
                found=len(kept) + len(params.prefill),
                expected=self.n_positions,
            )
        return kept

    def _fitting(self, ids: Ids, params: GenerationParams) -> Ids:
        if params.overflow == "truncate":
            # max_length counts the prompt: beside it there is to be room for one token.
            new = params.max_new_tokens if params.max_length is None else 1
            room = self.n_positions - new
            return ids[-max(room, kept_by_slide(self.n_positions)) :]
        if len(ids) <= self.n_positions:
            return ids
        if params.overflow == "slide":
            return ids[-kept_by_slide(self.n_positions) :]
        raise self._too_long(len(ids))

    def _too_long(self, tokens: int, roughly: str = "") -> PromptTooLongError:
        return PromptTooLongError(
            f"the prompt has {roughly}{tokens} tokens, the model {self.n_positions} positions: "
            "shorten it, or set ",
            *(Advised("overflow", "truncate"), " to keep its end, "),
            *(Advised("overflow", "slide"), " to read on past them"),
            found=tokens,
            expected=self.n_positions,
        )

    def _check_text(self, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError as error:  # half a surrogate pair, as of a badly decoded argument
            raise PromptError(f"the text can't be written as UTF-8: {error}") from error

    def _checked(self, prompt: Sequence[int] | NDArray[np.integer[Any]]) -> Ids:
        if not _are_integers(prompt):
            raise PromptError(
                f"expected a text, or token ids in a list or an array [n], got {shown(prompt)}",
                name="prompt",
            )
        ids = np.asarray(prompt)
        if len(ids) and ids.dtype.kind not in "iu":  # beyond numpy's integers
            ids = np.array(prompt, object)
        wrong = ids[(ids < 0) | (ids >= self.vocab_size)]
        if wrong.size:
            found = wrong[0].item() if ids.dtype != object else wrong[0]
            raise TokenRangeError(
                f"token id {shown(found)}: expected 0 to {self.vocab_size - 1}, the model's "
                "vocabulary",
                found=found,
                expected=self.vocab_size - 1,
            )
        return ids.astype(np.int64)


def _are_integers(prompt: object) -> bool:
    """Whether this is a list or an array [n] of integers; a bool is none."""
    if isinstance(prompt, np.ndarray):
        return prompt.ndim == 1 and (np.issubdtype(prompt.dtype, np.integer) or not prompt.size)
    if isinstance(prompt, bytes) or not isinstance(prompt, Sequence):
        return False
    return all(isinstance(id_, int | np.integer) and not isinstance(id_, bool) for id_ in prompt)
