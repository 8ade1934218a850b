"""Tasks: what an engine runs. Each plans what is read next, and takes what came of it.

A task is one prompt's: all that is written after it, or what it scores. It owns its rows; when it
reads, and beside whom, the engine decides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Protocol, TypeVar

import numpy as np

from gpt2onnx.runtime.decoder.protocol import Decoder, Ids, Read, Result
from gpt2onnx.runtime.decoding.sequence import Step, TokenSequence

Event = TypeVar("Event")


class Task(Protocol[Event]):
    """What an engine asks of a strategy. It calls `plan` and `take` in turn until `done`."""

    @property
    def rows_needed(self) -> int:
        """The most rows that it has at once."""

    @property
    def length(self) -> int:
        """The most tokens that it wants in a row; the model may have fewer positions."""

    @property
    def rows(self) -> Sequence[Any]:
        """The rows that it has now."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to be read."""

    def plan(self) -> list[Read]:
        """What is to be read next, at most one read a row; never nothing."""

    def take(self, results: Sequence[Result], in_time: bool) -> list[Event]:
        """Take what came of the reads, in their order: what is to be told of it.

        `in_time` is whether there is time for more.
        """

    def close(self) -> None:
        """Give all rows back, at whatever point."""


class DrawingTask(ABC):
    """One prompt's sequences, with a row each: the prompt is read once, and its row forked.

    What a sequence reads and how it chooses, each strategy says.
    """

    def __init__(self, decoder: Decoder[Any], sequences: Iterable[TokenSequence]) -> None:
        """`sequences` are of one prompt."""
        self.decoder = decoder
        self.live = list(sequences)
        self.rows_needed = len(self.live)
        first = self.live[0]
        self.length = len(first.prompt) + first.params.max_new_tokens
        self._rows: dict[int, Any] = {}  # by the sequence's index
        self._unread = parts(decoder, first.prompt, first.written)

    @abstractmethod
    def next_read(self, sequence: TokenSequence) -> Read:
        """What a sequence reads next."""

    @abstractmethod
    def sample(self, sequence: TokenSequence, result: Result, in_time: bool) -> list[Step]:
        """The tokens that a sequence takes from what it read."""

    def forget(self, sequence: TokenSequence) -> None:
        """Let go of what a strategy holds of a sequence beside its row: here nothing."""
        return

    @property
    def rows(self) -> Sequence[Any]:
        return list(self._rows.values())

    @property
    def done(self) -> bool:
        return not self.live

    @property
    def reads_prompt(self) -> bool:
        """Whether the prompt, or what stands behind it already, is still being read."""
        return bool(self._unread)

    def plan(self) -> list[Read]:
        if not self._unread:
            return [self.next_read(sequence) for sequence in self.live]
        first = self.live[0]
        if first.index not in self._rows:
            self._rows[first.index] = self.decoder.new_row()
        temperature, outside = first.sampler.sums
        ids = self._unread[0]
        return [Read(self.row(first), ids, prompt=True, temperature=temperature, outside=outside)]

    def take(self, results: Sequence[Result], in_time: bool) -> list[Step]:
        if self._unread:
            del self._unread[0]
            if self._unread:
                return []
            results = self._fork(results[0])
        pairs = zip(self.live, results, strict=True)
        steps = [step for each, result in pairs for step in self.sample(each, result, in_time)]
        for sequence in self.live:
            if sequence.finish_reason:
                self._release(sequence)
        self.live = [sequence for sequence in self.live if not sequence.finish_reason]
        return steps

    def close(self) -> None:
        for sequence in self.live:
            self._release(sequence)
        self.live = []

    def row(self, sequence: TokenSequence) -> Any:
        """A sequence's row."""
        return self._rows[sequence.index]

    def is_full(self, sequence: TokenSequence) -> bool:
        """Whether a sequence's row has no position left."""
        full: bool = self.row(sequence).length == self.decoder.n_positions
        return full

    def _fork(self, result: Result) -> list[Result]:
        """Give every sequence a row that holds the prompt: what came of reading it, for each."""
        first, *others = self.live
        for other in others:
            self._rows[other.index] = self.decoder.fork(self.row(first))
        return [result] * len(self.live)

    def _release(self, sequence: TokenSequence) -> None:
        self.forget(sequence)
        row = self._rows.pop(sequence.index, None)
        if row is not None:
            self.decoder.free(row)


def parts(decoder: Decoder[Any], prompt: Ids, written: Ids) -> list[Ids]:  # [n], [m]
    """A prompt and the tokens that stand behind it already, in the parts that they are read in.

    Each of those tokens has the bits that it has where it was chosen: read alone, or among others
    where that comes to the same.
    """
    if decoder.exact_steps:
        return [np.concatenate([prompt, written])]
    return [prompt, *np.split(written, len(written))] if len(written) else [prompt]


def by_prompt(sequences: Iterable[TokenSequence]) -> list[list[TokenSequence]]:
    """Neighbours that have one prompt, together."""
    groups = groupby(sequences, key=lambda sequence: sequence.prompt.tobytes())
    return [list(group) for _, group in groups]
