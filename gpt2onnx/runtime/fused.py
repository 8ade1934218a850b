"""Decoder over the fused graph: attention appends to the cache in place.

Binds the graph's past and present to the same addresses of the cache's arena, so nothing of the
cache's size is ever copied. Knows the graph's inputs (export/graph.py lists them) and rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import ModelFolderError
from gpt2onnx.runtime.binding import bind_cache
from gpt2onnx.runtime.cache import ArenaFactory, CacheRow, CacheShape, HostArena, KVCache
from gpt2onnx.runtime.cuda import CudaArenas
from gpt2onnx.runtime.decoder import Hidden, Ids, Logits, Mask
from gpt2onnx.runtime.session import Session
from gpt2onnx.runtime.step_graphs import OUTPUTS, StepGraphs

INPUTS = (
    *("input_ids", "position_ids", "seqlens_k", "total_sequence_length", "logits_index"),
    *("past_key_values.0.key", "past_key_values.0.value"),
)
BIAS = "attention_bias"
Inputs = Mapping[str, NDArray[Any]]  # by name
Outputs = tuple[Logits, Hidden]  # [count, vocab], [count, hidden_size]
# Attention costs the square of a chunk, matrices want many rows: 128 was within 8 % of the best on
# one processor and the best on another (docs/log.md). It bounds a prompt's scratch memory, too.
PREFILL_CHUNK = 128


class FusedDecoder:
    """Rows of a KV cache, advanced by one ONNX Runtime session. For one thread at a time."""

    def __init__(self, session: Session, n_positions: int) -> None:
        self.session = session
        self.n_positions = n_positions
        self.cache = KVCache(cache_shape(session, n_positions), arena_of(session))
        self.vocab_size = int(session.outputs["logits"].shape[1])
        gives_hidden = "hidden_states" in session.outputs
        self.hidden_size = int(session.outputs["hidden_states"].shape[1]) if gives_hidden else 0
        self.hidden_states: Hidden = np.empty((0, self.hidden_size), np.float32)
        self.can_branch = BIAS in session.inputs
        self._binding = session.raw.io_binding()
        self._bound: tuple[Any, int, int] | None = None
        self._held: dict[str, NDArray[Any]] = {}  # inputs that are bound
        self._graphs = None
        if session.captures and not self.can_branch:  # a bias has another size every step
            self._graphs = StepGraphs(session, self.cache.shape)

    def new_row(self) -> CacheRow:
        return self.cache.new_row()

    def fork(self, row: CacheRow) -> CacheRow:
        return self.cache.fork(row)

    def copy(self, source: CacheRow, target: CacheRow, start: int) -> None:
        self.cache.copy(source, target, start)

    def truncate(self, row: CacheRow, length: int) -> None:
        self.cache.truncate(row, length)

    def free(self, row: CacheRow) -> None:
        self.cache.free(row)
        if self.cache.arena is None:
            self._bound = None

    def reserve(self, rows: int, length: int) -> None:
        self.cache.reserve(len(self.cache.rows) + rows, length)

    def prefill(self, row: CacheRow, ids: Ids) -> Logits:
        self.cache.make_room(row, len(ids))
        logits, hidden = self._empty(1)
        for chunk in _chunks(ids):
            last = slice(int(chunk.stop < len(ids)), None)  # no position's, but of the last chunk
            wanted = np.array([chunk.stop - chunk.start - 1])[last]
            self._append(row, ids[chunk], wanted, (logits[last], hidden[last]))
        return logits.reshape(self.vocab_size)

    def extend(self, row: CacheRow, ids: Ids) -> Logits:
        self.cache.make_room(row, len(ids))
        logits, self.hidden_states = self._empty(len(ids))
        for chunk in _chunks(ids):
            wanted = np.arange(chunk.stop - chunk.start)
            self._append(row, ids[chunk], wanted, (logits[chunk], self.hidden_states[chunk]))
        return logits

    def step(self, rows: Sequence[CacheRow], ids: Ids) -> Logits:
        for row in rows:
            self.cache.make_room(row, 1)
        logits, self.hidden_states = self._empty(len(rows))
        if _in_order(rows):
            self._step(rows, ids, (logits, self.hidden_states))
        else:
            self._step_apart(rows, ids, (logits, self.hidden_states))
        for row in rows:
            row.length += 1
        return logits

    def branch(self, row: CacheRow, ids: Ids, sees: Mask, wanted: Ids) -> Logits:
        self.cache.make_room(row, len(ids))
        dtype = self.session.inputs[BIAS].dtype
        bias = np.zeros((1, 1, len(ids), row.length + len(ids)), dtype)
        bias[0, 0, :, row.length :][~sees] = np.finfo(dtype).min
        positions = row.length + sees.sum(axis=1) - 1
        told = {"position_ids": positions[None], BIAS: bias}
        logits, hidden = self._empty(len(wanted))
        self._append(row, ids, wanted, (logits, hidden), told)
        return logits

    def keep(self, row: CacheRow, start: int, offsets: Ids) -> None:
        self.cache.keep(row, start, offsets)

    def _step(self, rows: Sequence[CacheRow], ids: Ids, outputs: Outputs) -> None:
        """Run ids [rows] on top of rows that follow each other in the arena."""
        lengths = np.array([row.length for row in rows])
        first, arena = rows[0].index, self.cache.arena
        if self._graphs and arena and not first:
            self._graphs.step(arena, ids, lengths, dict(zip(OUTPUTS, outputs, strict=True)))
        else:
            self._run(first, ids[:, None], lengths, np.arange(len(rows)), outputs)

    def _step_apart(self, rows: Sequence[CacheRow], ids: Ids, outputs: Outputs) -> None:
        """Run ids [rows] on top of rows that stand anywhere in the arena."""
        for run in _contiguous(rows):
            found = self._empty(len(run))
            self._step([rows[position] for position in run], ids[run], found)
            for output, part in zip(outputs, found, strict=True):
                output[run] = part

    def _append(
        self, row: CacheRow, ids: Ids, wanted: Ids, outputs: Outputs, told: Inputs | None = None
    ) -> None:
        """Run ids [n] on top of a row; the rest is `_run`'s."""
        self._run(row.index, ids[None], np.array([row.length]), wanted, outputs, told)
        row.length += len(ids)

    def _empty(self, count: int) -> Outputs:
        """Where outputs of `count` positions go: new arrays, which the caller may keep."""
        logits = np.empty((count, self.vocab_size), np.float32)
        return logits, np.empty((count, self.hidden_size), np.float32)

    def _run(
        self,
        first: int,
        ids: Ids,
        past: Ids,
        wanted: Ids,
        outputs: Outputs,
        told: Inputs | None = None,
    ) -> None:
        """Run ids [rows, n] on top of `past` [rows] tokens in the rows from `first` on.

        `outputs` take what there is of the positions `wanted` [count]. `told` are inputs in place
        of what follows from these: each token sees all before it.
        """
        self._bind_cache(first, len(ids))
        total = past + ids.shape[1]
        longest = total.max()
        feeds = {
            "input_ids": ids,
            "position_ids": past[:, None] + np.arange(ids.shape[1]),
            "seqlens_k": total - 1,
            "total_sequence_length": longest,
            "logits_index": wanted,
        }
        if self.can_branch and not told:
            feeds[BIAS] = np.zeros((1, 1, ids.shape[1], longest), self.session.inputs[BIAS].dtype)
        for name, value in {**feeds, **(told or {})}.items():
            self._feed(name, value)
        logits, hidden = outputs
        self._bind_output("logits", logits)
        if self.hidden_size:
            self._bind_output("hidden_states", hidden)
        self.session.run(self._binding)

    def _feed(self, name: str, value: NDArray[Any]) -> None:
        """Give the graph an input: into the array that is bound already, where it has that shape.

        Binding copies to a device, so what is bound there can't be written any more.
        """
        held = self._held.get(name)
        if held is not None and held.shape == value.shape and self.session.provider == "cpu":
            held[...] = value
        else:
            held = self._held[name] = np.array(value, self.session.inputs[name].dtype)
            self._binding.bind_cpu_input(name, held)

    def _bind_output(self, name: str, to: NDArray[np.float32]) -> None:
        self._binding.bind_output(name, "cpu", 0, np.float32, to.shape, to.ctypes.data)

    def _bind_cache(self, first: int, count: int) -> None:
        """Bind past and present to `count` rows from `first` on, unless they already are."""
        arena, shape = self.cache.arena, self.cache.shape
        assert arena is not None  # a row was made before
        if self._bound == (arena, first, count):
            return
        bind_cache(self._binding, arena, shape, first, count)
        self._bound = (arena, first, count)


def arena_of(session: Session) -> ArenaFactory:
    """Where the session's device keeps a cache."""
    if session.device_type == "cuda":
        return CudaArenas(session)
    return HostArena


def cache_shape(session: Session, n_positions: int) -> CacheShape:
    """The cache that a fused graph wants, read from its own inputs. Errors: ModelFolderError."""
    if missing := [name for name in INPUTS if name not in session.inputs]:
        raise ModelFolderError(
            f"the graph's inputs are {', '.join(session.inputs)}: expected {', '.join(missing)}, "
            "too; export the model again"
        )
    keys = [name for name in session.inputs if name.endswith(".key")]
    dtype, shape = session.inputs["past_key_values.0.key"]
    _, heads, _, head_dim = shape
    if not (isinstance(heads, int) and isinstance(head_dim, int)):
        raise ModelFolderError(
            f"past_key_values.0.key has the shape {shape}: expected [batch, heads, capacity, "
            "head_dim] with numbers for heads and head_dim; export the model again"
        )
    return CacheShape(len(keys), heads, head_dim, n_positions, dtype)


def _chunks(ids: Ids) -> Iterator[slice]:
    """Even chunks: attention rounds a lone token otherwise than several, so none is left over."""
    if not len(ids):
        return
    size = -(-len(ids) // -(-len(ids) // PREFILL_CHUNK))
    for start in range(0, len(ids), size):
        yield slice(start, min(start + size, len(ids)))


def _in_order(rows: Sequence[CacheRow]) -> bool:
    """Whether `rows` follow each other in the arena, as those of a batch do."""
    return all(row.index == rows[0].index + position for position, row in enumerate(rows))


def _contiguous(rows: Sequence[CacheRow]) -> list[list[int]]:
    """Positions in `rows`, grouped into runs of neighbouring rows of the arena."""
    order = sorted(range(len(rows)), key=lambda position: rows[position].index)
    by_gap = groupby(enumerate(order), key=lambda pair: rows[pair[1]].index - pair[0])
    return [[position for _, position in run] for _, run in by_gap]
