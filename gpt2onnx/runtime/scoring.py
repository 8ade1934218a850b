"""Log-probabilities of a text's own tokens, by windows where it is longer than the model.

Knows the decoder's seam; knows no text.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    """
    inputs, targets = ids[:-1], ids[1:]
    stride = stride or (decoder.n_positions + 1) // 2
    logprobs = np.empty(len(targets), np.float32)
    done = 0
    while done < len(inputs):
        start = max(0, done - (decoder.n_positions - stride))
        end = min(start + decoder.n_positions, len(inputs))
        row = decoder.new_row()
        try:
            if start < done:
                decoder.prefill(row, inputs[start:done])
            for begin in range(done, end, CHUNK):
                chunk = slice(begin, min(begin + CHUNK, end))
                logits = decoder.extend(row, inputs[chunk])
                logprobs[chunk] = token_logprobs(logits, targets[chunk])
        finally:
            decoder.free(row)
        done = end
    return logprobs
