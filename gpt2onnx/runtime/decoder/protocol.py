"""The seam between running a model and deciding what to do with it.

Everything above (the engine, the strategies, the model's own methods) asks for rows and logits and
knows no graph; everything below knows no text, no sampling and no requests.

Several threads may share a decoder, each with rows of its own. A call is a turn of one of them, and
the calls of all take turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import CacheFullError
from gpt2onnx.samplers.top_logits import ALL, TopLogits

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]
Hidden = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Which of a read's positions are wanted, as an index of them.
Positions: TypeAlias = slice | Ids
EVERY: Final = slice(None)
LAST: Final = slice(-1, None)
NONE: Final = slice(0, 0)

NO_LOGITS: Logits = np.empty((0, 0), np.float32)
NO_ROW: Logits = np.empty(0, np.float32)


class Row(Protocol):
    """A sequence's place in a KV cache: a handle that stays good wherever the cache moves it."""

    @property
    def length(self) -> int:
        """The tokens that the row holds."""


AnyRow = TypeVar("AnyRow", bound=Row)
AnyRow_contra = TypeVar("AnyRow_contra", bound=Row, contravariant=True)


class Read(NamedTuple):
    """One row's part of a run: tokens to append, and of which of them the logits are wanted."""

    row: Any  # the decoder's own kind of Row
    ids: Ids  # [n], n >= 1
    wanted: Positions = LAST  # of the n
    # Part of a text that was there before: the engine may read it in chunks, between steps.
    prompt: bool = False
    # Of a lone token: how many of the largest logits settle a choice. ALL asks for the whole row.
    needs: int = ALL
    # The temperature of the choice that follows, of which TopLogits.sums are best; 1 where a text's
    # own tokens are scored, and None where nothing is asked of a row but its logits.
    temperature: float | None = None
    # The share of a row that the choice's top-p leaves out, where those sums need be of no others.
    outside: float = 0.0
    hidden: bool = False  # whether the hidden states of all n are wanted, not of `wanted` alone
    # [n, n]: which of the n each one sees beside what the row held, itself among them and of the
    # others only earlier ones. Its position is then the one behind all that it sees, and `accept`
    # says which of them came before the row goes on. None: each sees all before it.
    attention_mask: Mask | None = None


class Result(NamedTuple):
    """What came of a read."""

    logits: Logits  # [wanted, vocab]; none where the largest settle the choice
    hidden: Hidden = (
        NO_LOGITS  # [wanted, hidden_size], where the graph gives the last hidden states
    )
    # Of each that is wanted, where the read has a temperature and the graph gives them; without its
    # logits where these settle what the read needs.
    top_logits: Sequence[TopLogits] = ()

    def logits_at(self, place: int) -> Logits:  # [vocab], or [0] where there is only the top
        """The logits of one that is wanted."""
        return self.logits[place] if len(self.logits) else NO_ROW

    def top_at(self, place: int) -> TopLogits | None:
        """The largest of them, where they are known."""
        return self.top_logits[place] if self.top_logits else None


class GreedyWriter(Protocol[AnyRow_contra]):
    """Writes the most probable tokens, several in one run."""

    def write(self, row: AnyRow_contra, ids: Ids, count: int, confidence: float) -> Ids:
        """Append ids [n], n >= 1, to a row, then the most probable token again and again.

        Gives those tokens, `count` at most: they end before one that is less probable than
        `confidence`. The row then holds all but the last that was found.

        Raises CacheFullError where a row has no room for its tokens.
        """


class Decoder(Protocol[AnyRow]):
    """Advances rows of a KV cache. Knows tokens, rows and logits."""

    @property
    def vocab_size(self) -> int:
        """The length of every row of logits."""

    @property
    def n_positions(self) -> int:
        """The most tokens that a row can hold."""

    @property
    def hidden_size(self) -> int:
        """The length of a hidden state; 0 where the graph doesn't give them."""

    @property
    def can_branch(self) -> bool:
        """Whether a read may say what each token sees."""

    @property
    def exact_steps(self) -> bool:
        """Whether a token that is read alone has the bits that it has among several of its row."""

    @property
    def chunk(self) -> int:
        """The most tokens of a row that are read in one run."""

    @property
    def writer(self) -> GreedyWriter[AnyRow] | None:
        """What writes several tokens in one run; None where nothing does."""

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

    def accept(self, row: AnyRow, start: int, offsets: Ids) -> None:
        """Of the tokens from `start` on keep those at `offsets` [count], ascending, and no others.

        Each must have seen those kept before it, and no other from `start` on.
        """

    def free(self, row: AnyRow) -> None:
        """Give a row back; its handle must not be used again."""

    def take_out(self, row: AnyRow) -> Any:
        """Take a row's contents out of the cache: what `put_back` takes, which alone may follow."""

    def put_back(self, frozen: Any) -> None:
        """Let a row that was taken out go on: it holds what it held, bit for bit."""

    def gather(self, rows: Sequence[AnyRow]) -> None:
        """Rows that are about to share many runs: let them stand side by side."""

    def reserve(self, rows: int, length: int) -> None:
        """Make room for that many more rows of that many tokens: growing one by one would copy."""

    def read(self, reads: Sequence[Read]) -> list[Result]:
        """Append each read's tokens to its row: one result a read. Each row comes once.

        Lone tokens share a run; others are read by themselves, in even chunks.

        Raises CacheFullError where a row has no room for its tokens.
        """


def require_room(length: int, tokens: int, n_positions: int) -> None:
    """Raises CacheFullError where a row of `length` tokens can't take that many more."""
    if length + tokens > n_positions:
        raise CacheFullError(
            f"{length} tokens and {tokens} more exceed the model's {n_positions} positions",
            found=length + tokens,
            expected=n_positions,
        )


def even_chunks(count: int, size: int) -> Iterator[slice]:
    """`count` positions in even chunks of at most `size`.

    Even ones, since attention rounds a lone token otherwise than several.
    """
    if count <= size:
        yield slice(0, count)
        return
    size = -(-count // -(-count // size))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def kept_by_slide(n_positions: int) -> int:
    """How many of the newest tokens stay where a sequence slides past the last position."""
    return (n_positions + 1) // 2


def chunks(read: Read, size: int) -> list[Read]:
    """A read as several of at most `size` tokens, one after the other; what is masked stays whole.

    `read.wanted` is LAST, EVERY or NONE.
    """
    if len(read.ids) <= size or read.attention_mask is not None:
        return [read]
    parts = [read._replace(ids=read.ids[part]) for part in even_chunks(len(read.ids), size)]
    if read.wanted == LAST:
        parts[:-1] = [part._replace(wanted=NONE) for part in parts[:-1]]
    return parts


def joined(results: Sequence[Result]) -> Result:
    """The results of a read's chunks as one."""
    if len(results) == 1:
        return results[0]
    return Result(
        _concatenated([result.logits for result in results]),
        _concatenated([result.hidden for result in results]),
        [top for result in results for top in result.top_logits],
    )


def _concatenated(arrays: Sequence[Logits]) -> Logits:  # [n, width] each
    filled = [array for array in arrays if len(array)]
    return filled[0] if len(filled) == 1 else np.concatenate(filled or arrays[-1:])
