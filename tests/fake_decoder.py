"""A decoder without a model: logits are a function of a row's tokens. It checks its callers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gpt2onnx.runtime.decoder.protocol import (
    LAST,
    NONE,
    Ids,
    Logits,
    Mask,
    Read,
    Result,
    require_room,
)
from gpt2onnx.samplers import TopLogits, log_softmax

Rule = Callable[[tuple[int, ...]], Logits]


def by_last_token(probabilities: Sequence[Sequence[float]]) -> Rule:
    """Row t of [vocab, vocab]: how probable each token is after token t."""
    with np.errstate(divide="ignore"):
        table = np.log(np.array(probabilities, np.float32))
    return lambda tokens: table[tokens[-1]]


def by_history(vocab_size: int, seed: int = 0) -> Rule:
    """Random logits that the whole history decides: no two histories go on alike."""
    return lambda tokens: (
        np.random.default_rng([seed, *tokens]).normal(0, 3, vocab_size).astype("f")
    )


def largest(logits: Logits, top: int) -> TopLogits:
    """The `top` largest of logits [..., vocab], of equals the lowest ids first: [..., top] each."""
    ids = np.argsort(-logits, axis=-1, kind="stable")[..., :top]
    found = np.take_along_axis(logits, ids, -1)
    return TopLogits(ids, found, np.take_along_axis(log_softmax(logits), ids, -1))


class FakeRow:
    """The tokens that a row holds; None once it was freed.

    `branches` is where they part, and what each of those behind sees, until some are kept.
    """

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self.tokens: list[int] | None = list(tokens)
        self.branches: tuple[int, Mask] | None = None

    @property
    def length(self) -> int:
        return len(self.held)

    @property
    def held(self) -> list[int]:
        assert self.tokens is not None, "the row was freed"
        return self.tokens


class FakeDecoder:
    """Implements decoder.protocol.Decoder; it can tell `top` largest logits alone.

    `rows` are in use. `calls` tells what was asked for: ("prefill", "extend" or "branch", its ids:
    a prompt of which no more than the last logits are wanted, any other read, one that says what
    each token sees), ("fork" or "truncate", a length), ("step" or "largest", the number of lone
    tokens in a run), ("keep", its offsets).
    """

    can_branch = True
    writer = None
    exact_steps = True
    hidden_size = 0
    chunk = 1 << 20
    top = 0

    def __init__(self, rule: Rule, n_positions: int = 1024) -> None:
        self.rule = rule
        self.n_positions = n_positions
        self.vocab_size = len(rule((0,)))
        self.rows: list[FakeRow] = []
        self.frozen: list[FakeRow] = []
        self.calls: list[tuple[str, int | list[int]]] = []

    def new_row(self) -> FakeRow:
        self.rows.append(FakeRow())
        return self.rows[-1]

    def fork(self, row: FakeRow) -> FakeRow:
        assert row.branches is None
        self.calls.append(("fork", row.length))
        self.rows.append(FakeRow(row.held))
        return self.rows[-1]

    def copy(self, source: FakeRow, target: FakeRow, start: int) -> None:
        assert source in self.rows
        assert target in self.rows
        assert source.held[:start] == target.held[:start]
        self.calls.append(("copy", source.length - start))
        target.tokens = list(source.held)

    def truncate(self, row: FakeRow, length: int) -> None:
        assert 0 <= length <= row.length
        self.calls.append(("truncate", length))
        del row.held[length:]

    def free(self, row: FakeRow) -> None:
        assert row.held is not None
        (self.rows if row in self.rows else self.frozen).remove(row)
        row.tokens = None

    def take_out(self, row: FakeRow) -> FakeRow:
        assert row in self.rows
        self.rows.remove(row)
        self.frozen.append(row)
        return row

    def put_back(self, frozen: FakeRow) -> None:
        self.frozen.remove(frozen)
        self.rows.append(frozen)

    def gather(self, rows: Sequence[FakeRow]) -> None:
        assert all(row in self.rows for row in rows)

    def reserve(self, rows: int, length: int) -> None:
        assert rows >= 1
        assert 1 <= length <= self.n_positions

    def read(self, reads: Sequence[Read]) -> list[Result]:
        assert reads
        assert len({id(each.row) for each in reads}) == len(reads)
        results = [None if self._is_lone(each) else self._read(each) for each in reads]
        lone = [each for each in reads if self._is_lone(each)]
        if lone:
            few = [each for each in lone if each.needs < self.top]
            if few:
                self.calls.append(("largest", len(few)))
            if unsettled := [each for each in lone if not self._is_settled(each)]:
                self.calls.append(("step", len(unsettled)))
        return [result or self._read(each) for result, each in zip(results, reads, strict=True)]

    def _is_lone(self, read: Read) -> bool:
        """Whether a read is one of those that share a run; a prompt of one token is told apart."""
        return len(read.ids) == 1 and not read.prompt

    def _is_settled(self, read: Read) -> bool:
        """Whether a lone token's largest logits settle what it needs."""
        if read.needs >= self.top:
            return False
        (logits,) = self._logits(read)
        return largest(logits, self.top).settles(read.needs)

    def _read(self, read: Read) -> Result:
        kind = "extend"
        if read.attention_mask is not None:
            kind = "branch"
        elif read.prompt and read.wanted in (LAST, NONE):
            kind = "prefill"
        settled = self._is_lone(read) and self._is_settled(read)
        if not self._is_lone(read):
            self.calls.append((kind, read.ids.tolist()))
        logits = self._logits(read)
        self._append(read)
        if settled:
            return Result(logits[:0], top_logits=[largest(logits[0], self.top)])
        return Result(logits[read.wanted])

    def _logits(self, read: Read) -> Logits:  # [n, vocab]
        """What follows each of a read's tokens, as the rule has it."""
        before, n = tuple(read.row.held), len(read.ids)
        attention_mask = (
            np.tril(np.ones((n, n), np.bool_))
            if read.attention_mask is None
            else read.attention_mask
        )
        assert attention_mask.shape == (n, n)
        assert attention_mask.diagonal().all()
        assert not np.triu(attention_mask, 1).any()
        return np.stack([self.rule((*before, *read.ids[seen].tolist())) for seen in attention_mask])

    def accept(self, row: FakeRow, start: int, offsets: Ids) -> None:
        self.calls.append(("keep", offsets.tolist()))
        assert row.branches is not None
        begun, attention_mask = row.branches
        assert start == begun
        for n, offset in enumerate(offsets):
            assert np.flatnonzero(attention_mask[offset]).tolist() == offsets[: n + 1].tolist()
        row.tokens = row.held[:start] + [row.held[start + offset] for offset in offsets]
        row.branches = None

    def _append(self, read: Read) -> None:
        row, ids = read.row, read.ids
        assert row in self.rows, "the row is another decoder's, or was freed"
        assert row.branches is None, "which of the row's branches came?"
        assert ids.dtype == np.int64
        assert ids.ndim == 1
        assert len(ids)
        assert 0 <= ids.min() <= ids.max() < self.vocab_size
        require_room(row.length, len(ids), self.n_positions)
        if read.attention_mask is not None and len(ids) > 1:
            row.branches = row.length, read.attention_mask
        row.held.extend(ids.tolist())
