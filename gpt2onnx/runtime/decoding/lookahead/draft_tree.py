"""Several guesses of what follows a token, merged where they begin alike.

Each token of a tree sees those alone that lead to it, so that one run of the model judges all
guesses (Miao et al., SpecInfer, 2305.09781). Knows tokens; knows nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gpt2onnx.runtime.decoder.protocol import Ids, Mask


class DraftTree:
    """Nodes 1 to n are drafted tokens, parents before their children; node 0 is what all follow."""

    def __init__(self, guesses: Iterable[Iterable[int]] = ()) -> None:
        self._nodes: dict[tuple[int, int], int] = {}  # by the parent's node and the token
        for guess in guesses:
            node = 0
            for token in guess:
                node = self._nodes.setdefault((node, token), len(self._nodes) + 1)

    def __len__(self) -> int:
        return len(self._nodes)

    def child(self, node: int, token: int) -> int | None:
        """The node of a token that follows a node, if that was guessed."""
        return self._nodes.get((node, token))

    @property
    def ids(self) -> Ids:
        """The drafted tokens [n]."""
        return np.array([token for _, token in self._nodes], np.int64)

    @property
    def attention_mask(self) -> Mask:
        """Which of node 0 and the others each one sees: [1 + n, 1 + n]."""
        attention_mask = np.eye(1 + len(self), dtype=np.bool_)
        for (parent, _), node in self._nodes.items():
            attention_mask[node] |= attention_mask[parent]
        return attention_mask
