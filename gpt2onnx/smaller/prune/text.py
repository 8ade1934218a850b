"""The tokens that a prune fits on, and those that it measures on: windows from all over the texts.

Every fourth window is held out, so that both are of the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import PromptError, UnsupportedConfigError
from gpt2onnx.export.calibration.forward_pass import cut
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint
from gpt2onnx.tokenizer.codec import encode

Ids = NDArray[np.int64]

# Of a window, and of all of them at most: what fits four tokens a hidden unit of GPT-2 124M.
WINDOW, MOST = 512, 16384
# Fewer tokens say nothing of a model.
LEAST = 1024
HELD_OUT = 4


class Windows(NamedTuple):
    """ids [windows, tokens] of each; `total` are the texts' tokens."""

    fit: Ids
    held_out: Ids
    total: int


def windows_of(checkpoint: Checkpoint, texts: Sequence[str]) -> Windows:
    """Windows of a checkpoint's tokens. Raises PromptError where there are too few.

    Raises UnsupportedConfigError for a model of one position, which foresees nothing.
    """
    if checkpoint.config.n_positions < 2:
        raise UnsupportedConfigError("n_positions must be at least 2 to be measured on a text")
    ids = np.array([i for text in texts for i in encode(checkpoint.tokenizer, text)], np.int64)
    if len(ids) < LEAST:
        raise PromptError(
            f"the text has {len(ids):,} tokens: expected at least {LEAST:,}, to fit on some and to"
            " measure on others; give more of it"
        )
    tokens = min(WINDOW, checkpoint.config.n_positions, len(ids) // (2 * HELD_OUT))
    cuts = cut(ids, MOST // tokens, tokens)
    held_out = np.arange(len(cuts)) % HELD_OUT == HELD_OUT - 1
    return Windows(cuts[~held_out], cuts[held_out], len(ids))
