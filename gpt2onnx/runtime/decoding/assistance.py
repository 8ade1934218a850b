"""Which drafter a call gets, and whether a draft model fits the model that it drafts for.

Knows tokenizers and parameters; what becomes of drafts, `speculation` knows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import tokenizers

from gpt2onnx.errors import Given, ModelFolderError, ParameterError
from gpt2onnx.files import as_path
from gpt2onnx.runtime.decoder.protocol import Decoder
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.params.rules import DRAFT_EXCLUDES

if TYPE_CHECKING:
    from gpt2onnx.runtime.decoding.speculation import Speculation

# transformers' default for a lookup; five is what it long had for a model's first draft.
NGRAM_SIZE = 2
NUM_ASSISTANT_TOKENS = 5
# transformers' default; a draft that learned what its target writes knows when it doesn't know.
CONFIDENCE_THRESHOLD = 0.4


def check_no_draft(given: Mapping[str, Any]) -> None:
    """Raises ParameterError for what a call gives that has no effect without a draft model."""
    for name in ("num_assistant_tokens", "assistant_confidence_threshold"):
        if given.get(name) is not None:
            raise ParameterError(
                *(Given(name, given[name]), " has no effect without ", Given("draft")),
                *(": give a draft model, or leave ", Given(name), " out"),
            )


class Assistant(Protocol):
    """What a draft model is asked for: a Model has it."""

    @property
    def tokenizer(self) -> tokenizers.Tokenizer: ...
    @property
    def decoder(self) -> Decoder[Any]: ...


Draft: TypeAlias = Assistant | str | Path


class Assistance:
    """The drafters of one model. Draft models that it opened stay open, and are checked once."""

    def __init__(self, model: Assistant, load: Callable[[str | Path], Assistant]) -> None:
        self._model, self._load = model, load
        self._opened: dict[Path, Assistant] = {}
        self._opening = Lock()
        self._fitting: Assistant | None = None

    def speculation(self, draft: Draft | None, params: GenerationParams) -> Speculation | None:
        """The strategy that `draft` and the parameters ask for; None where none is.

        Raises ParameterError, and for a folder those of `load`.
        """
        looked_up = params.prompt_lookup_num_tokens or 0
        if draft is None and not looked_up:
            return None
        from gpt2onnx.runtime.decoding.drafters import DraftModel, PromptLookup  # few ask for it
        from gpt2onnx.runtime.decoding.speculation import Speculation

        if draft is not None:
            params.check_beside(DRAFT_EXCLUDES)
            decoder = self._fit(self._open(draft)).decoder
            count = params.num_assistant_tokens or NUM_ASSISTANT_TOKENS
            threshold = params.assistant_confidence_threshold
            confidence = CONFIDENCE_THRESHOLD if threshold is None else threshold
            return Speculation(DraftModel(decoder, confidence), count)
        lookup = PromptLookup(params.max_matching_ngram_size or NGRAM_SIZE)
        return Speculation(lookup, looked_up)

    def _open(self, draft: Draft) -> Assistant:
        if not isinstance(draft, str | Path):
            if not (hasattr(draft, "decoder") and hasattr(draft, "tokenizer")):
                raise ParameterError(
                    Given("draft", draft), ": expected an open model, or its folder"
                )
            return draft
        folder = Path(os.path.realpath(as_path(draft, "draft", ModelFolderError)))
        with self._opening:
            if folder not in self._opened:
                self._opened[folder] = self._load(draft)
            return self._opened[folder]

    def _fit(self, draft: Assistant) -> Assistant:
        """The same draft, which speaks of the same tokens and reaches as far as the model."""
        if draft is self._fitting:
            return draft
        mine, theirs = self._model.decoder, draft.decoder
        if theirs.vocab_size != mine.vocab_size:
            raise ParameterError(
                Given("draft"),
                f" has {theirs.vocab_size} tokens: expected {mine.vocab_size}, the model's own; "
                "choose a draft with the same tokenizer",
            )
        if draft.tokenizer.get_vocab() != self._model.tokenizer.get_vocab():
            raise ParameterError(
                Given("draft"),
                " has another tokenizer: expected the model's own vocabulary; choose a draft with "
                "the same tokenizer",
            )
        if theirs.n_positions < mine.n_positions:
            raise ParameterError(
                Given("draft"),
                f" has {theirs.n_positions} positions: expected at least the model's "
                f"{mine.n_positions}; choose another draft",
            )
        self._fitting = draft
        return draft
