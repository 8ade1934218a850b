"""Log-probabilities of a text's own tokens, by windows where it is longer than the model.

Knows the decoder's seam; knows no text.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.decoder import AnyRow, Decoder, Ids
from gpt2onnx.samplers import token_logprobs

# Logits of this many tokens are held at once: 128 of GPT-2's are 26 MB.
CHUNK = 128


def score(decoder: Decoder[AnyRow], ids: Ids, stride: int | None = None) -> NDArray[np.float32]:
    """The log-probability of each of ids[1:], given those before it: [n - 1].

    A text longer than n_positions is read in windows that move on by `stride` (half the positions
    where none is given), so that every token but the first window's is predicted from at least
    n_positions - stride others.
    https://huggingface.co/docs/transformers/perplexity

    Errors: ParameterError for a stride that isn't 1 to n_positions.
    """
    inputs, targets = ids[:-1], ids[1:]
    logprobs = np.empty(len(targets), np.float32)
    decoder.reserve(1, min(len(inputs), decoder.n_positions))
    row = decoder.new_row()
    try:
        for start, done, end in _windows(len(inputs), decoder.n_positions, stride):
            decoder.truncate(row, 0)
            if start < done:
                decoder.prefill(row, inputs[start:done])
            for begin in range(done, end, CHUNK):
                chunk = slice(begin, min(begin + CHUNK, end))
                logits = decoder.extend(row, inputs[chunk])
                logprobs[chunk] = token_logprobs(logits, targets[chunk])
    finally:
        decoder.free(row)
    return logprobs


def _windows(length: int, size: int, stride: int | None) -> Iterator[tuple[int, int, int]]:
    """Where each window starts, where what no window has scored begins, and where it ends."""
    stride = (size + 1) // 2 if stride is None else stride
    if not 1 <= stride <= size:
        raise ParameterError(f"stride={stride}: expected 1 to {size}, the model's positions")
    done = 0
    while done < length:
        start = max(0, done - (size - stride))
        end = min(start + size, length)
        yield start, done, end
        done = end
