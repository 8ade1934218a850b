"""The top logits, and whether they are enough to choose the token.

Greedy decoding and top-k sampling look at few logits, and a GPU finds those where they are: for a
batch of 128 and GPT-2's vocabulary that spares 26 MB a step. Knows nothing of devices, parameters
or chance.
"""

from __future__ import annotations

import sys
from typing import Final, NamedTuple

import numpy as np

from gpt2onnx.samplers.candidates import Candidates, FloatArray, IntArray

ALL: Final = sys.maxsize  # of the logits: more than any row has
# Logits closer than this share of their size may be equal once a temperature divided them.
_ROUNDING = 1e-6


class TopLogits(NamedTuple):
    """The `top` largest logits of a row, largest first. Ties with the last may be missing."""

    ids: IntArray  # [top]
    logits: FloatArray  # [top]
    logprobs: FloatArray  # [top], what log_softmax over the whole row makes of them

    def settles(self, count: int) -> bool:
        """Whether the `count` largest, and all ties with the last of them, are among these.

        False for a row with NaN or infinities, too: the whole row is needed to say so.
        """
        if count >= len(self.ids):
            return False
        smallest, last = self.logits[count - 1], self.logits[-1]
        return bool(smallest - last > _ROUNDING * abs(last) and np.isfinite(self.logprobs[0]))

    def candidates(self) -> Candidates:
        order = np.argsort(self.ids)
        return Candidates(self.ids[order], self.logits[order])
