"""A text's own logits and log-probabilities, by windows where it is longer than the model.

Knows the decoder's seam; knows no text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gpt2onnx.runtime.decoder.protocol import EVERY, NONE, Decoder, Ids, Logits, Read, Result
from gpt2onnx.samplers import TopLogits, token_logprobs, top_logprobs
from gpt2onnx.samplers.params.values import integer_where

# Logits of this many tokens are held at once: 128 of GPT-2's are 26 MB.
CHUNK = 128

# Which of the inputs, and the logits [n, vocab] after each of those.
Piece: TypeAlias = tuple[slice, Logits]


class Window(NamedTuple):
    """Inputs that are read together; those from `done` on are in no window before."""

    start: int
    done: int
    end: int

    @property
    def chunks(self) -> Iterator[slice]:
        """What is new, in pieces of at most CHUNK."""
        for begin in range(self.done, self.end, CHUNK):
            yield slice(begin, min(begin + CHUNK, self.end))


class ScoringTask:
    """The logits after each of some inputs, in order and in pieces of at most CHUNK.

    Inputs beyond n_positions are read in windows that move on by `stride` (half the positions where
    none is given), so that every token but the first window's is predicted from at least
    n_positions - stride others. https://huggingface.co/docs/transformers/perplexity
    """

    rows_needed = 1
    temperature: float | None = None  # as a Read's

    def __init__(self, decoder: Decoder[Any], inputs: Ids, stride: int | None = None) -> None:
        """Inputs [n]. Raises ParameterError for a stride that isn't 1 to n_positions."""
        self.length = len(inputs)
        self.rows: list[Any] = []
        self._decoder, self._inputs = decoder, inputs
        self._pieces = deque(_pieces(len(inputs), decoder.n_positions, stride))

    @property
    def done(self) -> bool:
        return not self._pieces

    def plan(self) -> list[Read]:
        if not self.rows:
            self.rows.append(self._decoder.new_row())
        (row,), piece = self.rows, self._pieces[0]
        if piece.begins:
            self._decoder.truncate(row, 0)
        wanted = EVERY if piece.is_new else NONE
        inputs = self._inputs[piece.inputs]
        return [Read(row, inputs, wanted, prompt=True, temperature=self.temperature)]

    def take(self, results: Sequence[Result], in_time: bool) -> list[Piece]:
        """Which of the inputs were read, and the logits [n, vocab] after each of those."""
        piece = self._pieces.popleft()
        if self.done:
            self.close()
        return [(piece.inputs, results[0].logits)] if piece.is_new else []

    def close(self) -> None:
        while self.rows:
            self._decoder.free(self.rows.pop())


class LogprobsTask(ScoringTask):
    """The log-probability of each of ids[1:], given those before it, and the `top` largest.

    A token has the same bits as where it is chosen: where the graph tells a row's sum, of that.
    """

    temperature = 1.0

    def __init__(
        self, decoder: Decoder[Any], ids: Ids, stride: int | None = None, top: int = 0
    ) -> None:
        """Token ids [n]; windows and errors as ScoringTask's."""
        super().__init__(decoder, ids[:-1], stride)
        self.targets, self._top = ids[1:], top
        self.logprobs = np.empty(len(self.targets), np.float32)  # [n - 1]
        self.top_ids = np.empty((len(self.targets), top), np.int64)  # [n - 1, top]
        self.top_logprobs = np.empty((len(self.targets), top), np.float32)  # [n - 1, top]

    def take(self, results: Sequence[Result], in_time: bool) -> list[Piece]:
        pieces = super().take(results, in_time)
        for piece, logits in pieces:
            self.logprobs[piece] = _logprobs(logits, self.targets[piece], results[0].top_logits)
            if self._top:
                found = top_logprobs(logits, self._top)
                self.top_ids[piece], self.top_logprobs[piece] = found
        return []


def _logprobs(logits: Logits, targets: Ids, known: Sequence[TopLogits]) -> Logits:
    """Of one token a row: logits [n, vocab], targets [n], the largest of each row where known."""
    if not (known and all(top.is_finite for top in known)):
        return token_logprobs(logits, targets)
    rows = zip(known, targets.tolist(), logits, strict=True)
    return np.array([top.logprob(token, row) for top, token, row in rows], np.float32)


class _Piece(NamedTuple):
    """Inputs that are read at once."""

    inputs: slice
    is_new: bool  # in no window before
    begins: bool  # a window


def _pieces(length: int, size: int, stride: int | None) -> Iterator[_Piece]:
    for window in windows(length, size, stride):
        begins = True
        if window.start < window.done:
            yield _Piece(slice(window.start, window.done), is_new=False, begins=True)
            begins = False
        for chunk in window.chunks:
            yield _Piece(chunk, is_new=True, begins=begins)
            begins = False


def windows(length: int, size: int, stride: int | None) -> Iterator[Window]:
    """Windows of at most `size` over so many inputs; errors as ScoringTask's."""
    check = integer_where(lambda n: 1 <= n <= size, f"1 to {size}, the model's positions")
    stride = (size + 1) // 2 if stride is None else check("stride", stride)
    done = 0
    while done < length:
        start = max(0, done - (size - stride))
        end = min(start + size, length)
        yield Window(start, done, end)
        done = end
