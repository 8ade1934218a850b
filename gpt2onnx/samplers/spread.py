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
from gpt2onnx.samplers.cumulative import BLOCK, Sums, reaching_by_blocks, surely_reaching

# How sums that were found where the logits were made (kernels/src/nucleus.cpp) may differ from
# numpy's: by a share, 5.5 units of 2 ** -24 for both's exp and one for a block's float32, and each
# block's by 2 ** -27 more.
SHARE, APART = 7 * 2.0**-24, 2.0**-27


class Spread(NamedTuple):
    """Weights exp(logit - most) of tokens from 0 on, in blocks of BLOCK."""

    sums: FloatArray | Sums  # [blocks], of each block's weights
    most: np.float32
    block: Callable[[int], FloatArray]  # the logits of one: [BLOCK] or fewer, -inf left out
    # What `reaching` asks where such sums could tell otherwise than numpy's
    exactly: Callable[[float], int] | None = None

    def reaching(self, share: float) -> int:
        """The first token up to which the weights sum to more than `share` of all."""
        if self.exactly is None:
            return reaching_by_blocks(self.sums, self._weights, share, "right")
        token = surely_reaching(self.sums, self._weights, share, SHARE, APART)
        return self.exactly(share) if token is None else token

    def _weights(self, place: int) -> FloatArray:  # -> [BLOCK] or fewer
        weights: FloatArray = np.exp(self.block(place) - self.most)
        return weights

    def logprob(self, token: int) -> float:
        """A token's log-probability."""
        below = self.block(token // BLOCK)[token % BLOCK] - self.most
        return float(below) - math.log(self.sums.sum(dtype=np.float64))
