"""A decoder without a model: logits are a function of a row's tokens. It checks its callers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import CacheFullError
from gpt2onnx.runtime.decoder.protocol import Ids, Logits, Mask, Top
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
    """Implements decoder.BranchingDecoder, and LargestDecoder where `top` is set.

    `rows` are in use. `calls` tells what was asked for: ("prefill", "extend" or "branch", its ids),
    ("fork" or "truncate", a length), ("step" or "largest", the number of rows), ("keep", its
    offsets).
    """

    can_branch = True
    top = 0

    def __init__(self, rule: Rule, n_positions: int = 1024) -> None:
        self.rule = rule
        self.n_positions = n_positions
        self.vocab_size = len(rule((0,)))
        self.rows: list[FakeRow] = []
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
        self.rows.remove(row)
        row.tokens = None

    def reserve(self, rows: int, length: int) -> None:
        assert rows >= 1
        assert 1 <= length <= self.n_positions

    def prefill(self, row: FakeRow, ids: Ids) -> Logits:
        self.calls.append(("prefill", ids.tolist()))
        return self._append(row, ids)[-1]

    def extend(self, row: FakeRow, ids: Ids) -> Logits:
        self.calls.append(("extend", ids.tolist()))
        return self._append(row, ids)

    def step(self, rows: Sequence[FakeRow], ids: Ids) -> Logits:
        self.calls.append(("step", len(rows)))
        assert len(ids) == len(rows) == len(set(map(id, rows))) > 0
        return np.concatenate([self._append(row, ids[i : i + 1]) for i, row in enumerate(rows)])

    def step_largest(self, rows: Sequence[FakeRow], ids: Ids) -> Top:
        logits = self.step(rows, ids)
        self.calls[-1] = ("largest", len(rows))
        return largest(logits, self.top)

    def branch(self, row: FakeRow, ids: Ids, sees: Mask, wanted: Ids) -> Logits:
        self.calls.append(("branch", ids.tolist()))
        assert sees.shape == (len(ids), len(ids))
        assert sees.diagonal().all()
        assert not np.triu(sees, 1).any()
        start = row.length
        self._append(row, ids)
        row.branches = start, sees
        before = tuple(row.held[:start])
        return np.stack([self.rule((*before, *ids[sees[n]].tolist())) for n in wanted])

    def keep(self, row: FakeRow, start: int, offsets: Ids) -> None:
        self.calls.append(("keep", offsets.tolist()))
        assert row.branches is not None
        begun, sees = row.branches
        assert start == begun
        for n, offset in enumerate(offsets):
            assert np.flatnonzero(sees[offset]).tolist() == offsets[: n + 1].tolist()
        row.tokens = row.held[:start] + [row.held[start + offset] for offset in offsets]
        row.branches = None

    def _append(self, row: FakeRow, ids: NDArray[np.int64]) -> Logits:  # [n] -> [n, vocab]
        assert row in self.rows, "the row is another decoder's, or was freed"
        assert row.branches is None, "which of the row's branches came?"
        assert ids.dtype == np.int64
        assert ids.ndim == 1
        assert len(ids)
        assert 0 <= ids.min() <= ids.max() < self.vocab_size
        if row.length + len(ids) > self.n_positions:
            raise CacheFullError(
                f"{row.length} + {len(ids)} tokens in {self.n_positions} positions"
            )
        start = row.length
        row.held.extend(ids.tolist())
        ends = range(start + 1, row.length + 1)
        return np.stack([self.rule(tuple(row.held[:end])) for end in ends])
