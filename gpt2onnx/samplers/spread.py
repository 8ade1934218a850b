"""A distribution over a whole row, of which a draw looks at one block.

To narrow a row to candidates that are most of it takes longer than to draw from it. Knows nothing
of chance, or of where the sums come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gpt2onnx.samplers.candidates import FloatArray
from gpt2onnx.samplers.cumulative import BLOCK, Sums, reaching_by_blocks


class Spread(NamedTuple):
    """Weights exp(logit - most) of tokens from 0 on, in blocks of BLOCK."""

    sums: FloatArray | Sums  # [blocks], of each block's weights
    most: np.float32
    block: Callable[[int], FloatArray]  # the logits of one: [BLOCK] or fewer, -inf left out

    def reaching(self, share: float) -> int:
        """The first token up to which the weights sum to more than `share` of all."""
        return reaching_by_blocks(
            self.sums, lambda place: np.exp(self.block(place) - self.most), share, "right"
        )

    def logprob(self, token: int) -> float:
        """A token's log-probability."""
        below = self.block(token // BLOCK)[token % BLOCK] - self.most
        return float(below) - math.log(self.sums.sum(dtype=np.float64))
