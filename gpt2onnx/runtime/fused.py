"""Decoder over the fused graph: attention appends to the cache in place.

Binds the graph's past and present to the same addresses of the cache's arena, so nothing of the
cache's size is ever copied. Knows the graph's inputs (export/graph.py lists them) and rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import ModelFolderError
from gpt2onnx.runtime.cache import ArenaFactory, CacheRow, CacheShape, HostArena, KVCache
from gpt2onnx.runtime.cuda import CudaArena
from gpt2onnx.runtime.decoder import Hidden, Ids, Logits, Mask
from gpt2onnx.runtime.session import Session

INPUTS = (
    *("input_ids", "position_ids", "seqlens_k", "total_sequence_length", "logits_index"),
    *("past_key_values.0.key", "past_key_values.0.value"),
)
BIAS = "attention_bias"
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
        for chunk in _chunks(ids):
            wanted = [chunk.stop - chunk.start - 1] if chunk.stop == len(ids) else []
            logits, _ = self._append(row, ids[chunk], np.array(wanted, np.int64))
        return logits.reshape(self.vocab_size)

    def extend(self, row: CacheRow, ids: Ids) -> Logits:
        self.cache.make_room(row, len(ids))
        logits, hidden = self._empty(len(ids))
        for chunk in _chunks(ids):
            wanted = np.arange(chunk.stop - chunk.start)
            logits[chunk], hidden[chunk] = self._append(row, ids[chunk], wanted)
        self.hidden_states = hidden
        return logits

    def step(self, rows: Sequence[CacheRow], ids: Ids) -> Logits:
        for row in rows:
            self.cache.make_room(row, 1)
        logits, hidden = self._empty(len(rows))
        for run in _contiguous(rows):
            members = [rows[position] for position in run]
            lengths = np.array([row.length for row in members], np.int64)
            logits[run], hidden[run] = self._run(
                members[0].index, ids[run][:, None], lengths, np.arange(len(run))
            )
        for row in rows:
            row.length += 1
        self.hidden_states = hidden
        return logits

    def branch(self, row: CacheRow, ids: Ids, sees: Mask, wanted: Ids) -> Logits:
        self.cache.make_room(row, len(ids))
        dtype = self.session.inputs[BIAS].dtype
        bias = np.zeros((1, 1, len(ids), row.length + len(ids)), dtype)
        bias[0, 0, :, row.length :][~sees] = np.finfo(dtype).min
        positions = row.length + sees.sum(axis=1) - 1
        told = {"position_ids": positions[None], BIAS: bias}
        logits, _ = self._run(row.index, ids[None], np.array([row.length]), wanted, told)
        row.length += len(ids)
        return logits

    def keep(self, row: CacheRow, start: int, offsets: Ids) -> None:
        self.cache.keep(row, start, offsets)

    def _append(self, row: CacheRow, ids: Ids, wanted: Ids) -> tuple[Logits, Hidden]:
        """Run ids [n] on top of a row: what `_run` gives of the positions `wanted` [count]."""
        outputs = self._run(row.index, ids[None], np.array([row.length]), wanted)
        row.length += len(ids)
        return outputs

    def _empty(self, count: int) -> tuple[Logits, Hidden]:
        """Where logits [count, vocab] go, and hidden states [count, hidden_size]."""
        sizes = self.vocab_size, self.hidden_size
        logits, hidden = (np.empty((count, size), np.float32) for size in sizes)
        return logits, hidden

    def _run(
        self,
        first: int,
        ids: Ids,
        past: Ids,
        wanted: Ids,
        told: Mapping[str, NDArray[Any]] = {},
    ) -> tuple[Logits, Hidden]:
        """Run ids [rows, n] on top of `past` [rows] tokens in the rows from `first` on.

        `told` are inputs in place of what follows from these: each token sees all before it.
        """
        self._bind_cache(first, len(ids))
        total = past + ids.shape[1]
        feeds = {
            "input_ids": ids,
            "position_ids": past[:, None] + np.arange(ids.shape[1]),
            "seqlens_k": (total - 1).astype(np.int32),
            "total_sequence_length": np.array(total.max(), np.int32),
            "logits_index": wanted,
        }
        if self.can_branch and not told:
            size = (1, 1, ids.shape[1], int(total.max()))
            feeds[BIAS] = np.zeros(size, self.session.inputs[BIAS].dtype)
        feeds |= told
        for name, value in feeds.items():
            self._binding.bind_cpu_input(name, np.ascontiguousarray(value))
        logits, hidden = self._empty(len(wanted))
        self._bind_output("logits", logits)
        if self.hidden_size:
            self._bind_output("hidden_states", hidden)
        self.session.raw.run_with_iobinding(self._binding)
        return logits, hidden

    def _bind_output(self, name: str, to: NDArray[np.float32]) -> None:
        self._binding.bind_output(name, "cpu", 0, np.float32, to.shape, to.ctypes.data)

    def _bind_cache(self, first: int, count: int) -> None:
        """Bind past and present to `count` rows from `first` on, unless they already are."""
        arena, shape = self.cache.arena, self.cache.shape
        assert arena is not None  # a row was made before
        if self._bound == (arena, first, count):
            return
        size = [count, shape.heads, arena.capacity, shape.head_dim]
        where = (*arena.device, shape.dtype.type, size)
        for tensor, address in enumerate(arena.addresses(first)):
            name = f"{tensor // 2}.{('key', 'value')[tensor % 2]}"
            self._binding.bind_input(f"past_key_values.{name}", *where, address)
            self._binding.bind_output(f"present.{name}", *where, address)
        self._bound = (arena, first, count)


def arena_of(session: Session) -> ArenaFactory:
    """Where the session's device keeps a cache."""
    if session.device_type == "cuda":
        return partial(CudaArena, session)
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


def _contiguous(rows: Sequence[CacheRow]) -> list[list[int]]:
    """Positions in `rows`, grouped into runs of neighbouring rows of the arena."""
    order = sorted(range(len(rows)), key=lambda position: rows[position].index)
    by_gap = groupby(enumerate(order), key=lambda pair: rows[pair[1]].index - pair[0])
    return [[position for _, position in run] for _, run in by_gap]
