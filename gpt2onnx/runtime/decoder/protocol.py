"""The seam between running a model and deciding what to do with it.

Everything above (the loop, the strategies, the model's own methods) asks for rows and logits and
knows no graph; everything below knows no text, no sampling and no requests.

Several threads may share a decoder, each with rows of its own. A call is a step of one of them, and
the calls of all take turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]
Hidden = NDArray[np.float32]
Mask = NDArray[np.bool_]
# Tokens, their logits, and what log_softmax over the whole row makes of those: three [rows, top].
Top = tuple[Ids, Logits, Logits]


class Row(Protocol):
    """A sequence's place in a KV cache: a handle that stays good wherever the cache moves it."""

    @property
    def length(self) -> int:
        """The tokens that the row holds."""


AnyRow = TypeVar("AnyRow", bound=Row)


class Decoder(Protocol[AnyRow]):
    """Advances rows of a KV cache. Knows tokens, rows and logits."""

    @property
    def vocab_size(self) -> int:
        """The length of every row of logits."""

    @property
    def n_positions(self) -> int:
        """The most tokens that a row can hold."""

    @property
    def top(self) -> int:
        """How many of a row's largest logits it can tell alone, as a LargestDecoder does; or 0."""

    def new_row(self) -> AnyRow:
        """An empty row."""

    def fork(self, row: AnyRow) -> AnyRow:
        """A row with the same tokens, which goes its own way from here."""

    def copy(self, source: AnyRow, target: AnyRow, start: int) -> None:
        """Make `target` hold what `source` holds; their first `start` tokens are the same already.

        Where two rows went apart late this costs far less than a fork.
        """

    def truncate(self, row: AnyRow, length: int) -> None:
        """Forget all but the first `length` tokens of a row."""

    def free(self, row: AnyRow) -> None:
        """Give a row back; its handle must not be used again."""

    def reserve(self, rows: int, length: int) -> None:
        """Make room for that many more rows of that many tokens: growing one by one would copy."""

    def prefill(self, row: AnyRow, ids: Ids) -> Logits:
        """Append ids [n], n >= 1, to a row: the logits [vocab] after the last of them.

        Raises CacheFullError where the row has no room for them.
        """

    def extend(self, row: AnyRow, ids: Ids) -> Logits:
        """Append ids [n] to a row: the logits [n, vocab] after each of them."""

    def step(self, rows: Sequence[AnyRow], ids: Ids) -> Logits:
        """Append one of ids [rows] to each row: the logits [rows, vocab] after them."""


class HiddenDecoder(Decoder[AnyRow], Protocol[AnyRow]):
    """A decoder that can tell the last hidden states, too: what the head makes logits of."""

    @property
    def hidden_size(self) -> int:
        """The length of every hidden state; 0 where the graph doesn't give them."""

    @property
    def hidden_states(self) -> Hidden:
        """Those behind the logits of this thread's latest `extend` or `step`: [n, hidden_size]."""


class BranchingDecoder(Decoder[AnyRow], Protocol[AnyRow]):
    """A decoder that can read several ways of going on in one run, to keep one of them."""

    @property
    def can_branch(self) -> bool:
        """Whether the graph takes an attention bias, without which `branch` can't be."""

    def branch(self, row: AnyRow, ids: Ids, sees: Mask, wanted: Ids) -> Logits:
        """Append ids [n], all that may come: the logits [count, vocab] after those at `wanted`.

        Each token sees what the row held, and of the n those that `sees` [n, n] says: itself, and
        of the others only earlier ones. Its position is the one behind all that it sees. `keep`
        says which of them came, before the row goes on.
        """

    def keep(self, row: AnyRow, start: int, offsets: Ids) -> None:
        """Of the tokens from `start` on keep those at `offsets` [count], ascending, and no others.

        Each must have seen those kept before it, and no other from `start` on.
        """


class LargestDecoder(Decoder[AnyRow], Protocol[AnyRow]):
    """A decoder that can tell the largest logits alone, where its `top` is above 0.

    All of them may be much to move.
    """

    def step_largest(self, rows: Sequence[AnyRow], ids: Ids) -> Top:
        """Append one of ids [rows] to each row: the largest logits after them, largest first.

        Where they don't settle a choice, `truncate` takes the step back and `step` repeats it.
        """
