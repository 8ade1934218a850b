"""A text's own logits and log-probabilities, by windows where it is longer than the model.

Knows the decoder's seam; knows no text.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.decoder.protocol import AnyRow, Decoder, Ids, Logits
from gpt2onnx.samplers import token_logprobs
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


def score(decoder: Decoder[AnyRow], ids: Ids, stride: int | None = None) -> NDArray[np.float32]:
    """The log-probability of each of ids[1:], given those before it: [n - 1].

    Windows and errors as `walk`'s.
    """
    inputs, targets = ids[:-1], ids[1:]
    logprobs = np.empty(len(targets), np.float32)
    with closing(walk(decoder, inputs, stride)) as pieces:
        for piece, logits in pieces:
            logprobs[piece] = token_logprobs(logits, targets[piece])
    return logprobs


def walk(
    decoder: Decoder[AnyRow], inputs: Ids, stride: int | None = None
) -> Generator[Piece, None, None]:
    """The logits after each of the inputs [n], in order and in pieces of at most CHUNK.

    Inputs beyond n_positions are read in windows that move on by `stride` (half the positions where
    none is given), so that every token but the first window's is predicted from at least
    n_positions - stride others. Closing the generator frees its row.
    https://huggingface.co/docs/transformers/perplexity

    Raises ParameterError for a stride that isn't 1 to n_positions.
    """
    decoder.reserve(1, min(len(inputs), decoder.n_positions))
    row = decoder.new_row()
    try:
        for window in windows(len(inputs), decoder.n_positions, stride):
            decoder.truncate(row, 0)
            if window.start < window.done:
                decoder.prefill(row, inputs[window.start : window.done])
            for chunk in window.chunks:
                yield chunk, decoder.extend(row, inputs[chunk])
    finally:
        decoder.free(row)


def windows(length: int, size: int, stride: int | None) -> Iterator[Window]:
    """Windows of at most `size` over so many inputs; errors as `walk`'s."""
    check = integer_where(lambda n: 1 <= n <= size, f"1 to {size}, the model's positions")
    stride = (size + 1) // 2 if stride is None else check("stride", stride)
    done = 0
    while done < length:
        start = max(0, done - (size - stride))
        end = min(start + size, length)
        yield Window(start, done, end)
        done = end
