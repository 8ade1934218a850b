"""The window of a lookahead branch: guesses at several positions, from several iterations.

Fu et al., 2402.02057. Knows tokens; knows nothing of where they come from.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gpt2onnx.runtime.decoder.protocol import Ids, Mask


class JacobiWindow:
    """Tokens [levels, width]: level l of column c is a guess at position l + c behind the newest
    token, which is level 0 of column 0.

    A level is what the model said after the one before it, an iteration earlier, so each column is
    an n-gram without its end. The oldest level, 0, is read as a text; the others continue it column
    by column.
    """

    def __init__(self, width: int, levels: int, text: Ids) -> None:
        """Filled with the end of a text [n] until the model has said something."""
        end = np.resize(text[-(width + levels - 1) :], width + levels - 1)
        self.width = width
        self.tokens: Ids = sliding_window_view(end, width).copy()
        self.attention_mask = _attention_mask(width, levels)

    def advance(self, said: Ids) -> Ids:
        """Take what the model says after the last level [width]: n-grams [width, levels + 1].

        Each column goes on by one position, as if one token had come, however many did: that is
        the authors' default, and following the text changed nothing measurable
        (docs/notes/decoding.md).
        """
        ngrams = np.vstack([self.tokens, said])
        self.tokens = ngrams[1:]
        return ngrams.T


def _attention_mask(width: int, levels: int) -> Mask:
    """Which tokens of a window each of them sees: [levels * width, levels * width]."""
    level, column = np.indices((levels, width)).reshape(2, -1, 1)
    text = (level.T == 0) & (column >= column.T)
    own = (column == column.T) & (level >= level.T)
    attention_mask: Mask = text | own
    return attention_mask
