"""A text's last hidden states as one vector: their mean, or the last one's.

Knows the decoder's seam; knows no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import Given, ParameterError, PromptError
from gpt2onnx.flags import one_of
from gpt2onnx.runtime.decoder.protocol import NONE, Decoder, Hidden, Ids, Read, Result
from gpt2onnx.runtime.decoding.results import Token
from gpt2onnx.runtime.decoding.task import Task
from gpt2onnx.runtime.model import Model
from gpt2onnx.runtime.text.prompts import Prompt

Pooling = Literal["mean", "last"]
POOLINGS: Final = ("mean", "last")
# A graph that gives the hidden states of all tokens gives their logits, too: 128 of GPT-2's are
# 26 MB.
CHUNK: Final = 128


class EmbeddingTask:
    """Reads a text, and keeps what is asked for of its hidden states."""

    rows_needed = 1

    def __init__(self, decoder: Decoder[Any], ids: Ids, pooling: Pooling) -> None:
        """Token ids [n], n >= 1."""
        self.length, self.rows = len(ids), list[Any]()
        self._decoder, self._ids, self._pooling = decoder, ids, pooling
        self._read = 0
        self._sum: NDArray[np.float64] = np.zeros(decoder.hidden_size)  # [hidden_size]
        self._last: Hidden = np.zeros(decoder.hidden_size, np.float32)  # [hidden_size]

    @property
    def done(self) -> bool:
        return self._read == self.length

    @property
    def vector(self) -> Hidden:  # [hidden_size]
        """What the text comes to, once it was read."""
        if self._pooling == "last":
            return self._last
        return (self._sum / self.length).astype(np.float32)

    def plan(self) -> list[Read]:
        if not self.rows:
            self.rows.append(self._decoder.new_row())
        part = self._ids[self._read : self._read + CHUNK]
        return [Read(self.rows[0], part, NONE, prompt=True, hidden=True)]

    def take(self, results: Sequence[Result], in_time: bool) -> list[Any]:
        states = results[0].hidden  # [n, hidden_size]
        self._read += len(states)
        self._sum += states.sum(axis=0, dtype=np.float64)
        self._last = states[-1].copy()
        if self.done:
            self.close()
        return []

    def close(self) -> None:
        while self.rows:
            self._decoder.free(self.rows.pop())


@dataclass(frozen=True)
class EmbeddingCall:
    """What a call asks for: a task for each text, which tell nothing before their end."""

    tasks: Sequence[EmbeddingTask]

    max_time = None
    has_tokens = False
    untold = 0
    scoring_tasks: Sequence[Task[Any]] = ()

    def take(self, event: Any) -> Token:
        raise AssertionError("an embedding tells no tokens")

    def results(self) -> list[Hidden]:
        """A vector [hidden_size] of each text, once all tasks are done."""
        return [task.vector for task in self.tasks]


def embedding_call(model: Model, texts: Sequence[Prompt], pooling: Pooling) -> EmbeddingCall:
    """Vectors of texts, or token ids, as tasks for an engine.

    Raises ParameterError where the model's graph doesn't give its hidden states, PromptError and
    its kinds.
    """
    one_of("pooling", pooling, POOLINGS)
    if not model.decoder.hidden_size:
        raise ParameterError(
            Given("model"),
            " doesn't give its hidden states, which embeddings are made of: export it again with "
            "with_hidden_states=True (--with-hidden-states)",
        )
    if not all(len(text) for text in texts):
        raise PromptError("a text is empty: expected at least one token")
    ids = [model.prompt_ids(text, overflow="error") for text in texts]
    return EmbeddingCall([EmbeddingTask(model.decoder, each, pooling) for each in ids])
