"""Decoder over the graph of gpt2onnx-kernels' operators: flat tokens over the whole cache.

A run takes tokens of any rows, each of which says its row and its place there, so one run serves
the steps of all rows. The cache is an input that the graph writes to. Knows the graph's inputs
(export/graph/kernels.py lists them) and rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import ref

import numpy as np

from gpt2onnx.errors import ModelFolderError
from gpt2onnx.runtime.decoder.binding import Binding
from gpt2onnx.runtime.decoder.kv_cache import Arena, CacheRow, CacheShape, KVCache
from gpt2onnx.runtime.decoder.protocol import Hidden, Ids, Logits, Mask
from gpt2onnx.runtime.ort.session import Session

INPUTS = (
    *("input_ids", "position_ids", "rows", "slots", "logits_index", "sees"),
    *("past_key_values.0.key", "past_key_values.0.value"),
)
# Weights are read once a chunk, and its activations are scratch memory.
CHUNK = 256
NOTHING_HIDDEN = np.zeros((0, 0), np.bool_)
NO_POSITIONS = np.zeros(0, np.int64)


class FlatDecoder:
    """Rows of a KV cache, advanced by one ONNX Runtime session. For one thread at a time."""

    top = 0
    can_branch = True

    def __init__(self, session: Session, n_positions: int) -> None:
        self.session = session
        self.n_positions = n_positions
        self.cache = KVCache(_cache_shape(session, n_positions))
        self.vocab_size = int(session.outputs["logits"].shape[-1])
        hidden = session.outputs.get("hidden_states")
        self.hidden_size = int(hidden.shape[-1]) if hidden else 0
        self.hidden_states: Hidden = np.empty((0, self.hidden_size), np.float32)
        self._binding = _ArenaBinding(session, self.cache.shape)

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

    def reserve(self, rows: int, length: int) -> None:
        self.cache.reserve(len(self.cache.rows) + rows, length)

    def keep(self, row: CacheRow, start: int, offsets: Ids) -> None:
        self.cache.keep(row, start, offsets)

    def prefill(self, row: CacheRow, ids: Ids) -> Logits:
        self.cache.make_room(row, len(ids))
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            last = start + CHUNK >= len(ids)
            wanted = np.array([len(chunk) - 1]) if last else NO_POSITIONS
            logits = self._append(row, chunk, wanted).reshape(-1)
        return logits

    def extend(self, row: CacheRow, ids: Ids) -> Logits:
        self.cache.make_room(row, len(ids))
        logits = np.empty((len(ids), self.vocab_size), np.float32)
        hidden = np.empty((len(ids), self.hidden_size), np.float32)
        for start in range(0, len(ids), CHUNK):
            part = slice(start, min(start + CHUNK, len(ids)))
            logits[part] = self._append(row, ids[part], np.arange(part.stop - part.start))
            hidden[part] = self.hidden_states
        self.hidden_states = hidden
        return logits

    def step(self, rows: Sequence[CacheRow], ids: Ids) -> Logits:
        for row in rows:
            self.cache.make_room(row, 1)
        slots = np.array([row.length for row in rows])
        numbers = np.array([row.index for row in rows])
        logits = self._run(ids, slots, numbers, slots, np.arange(len(rows)))
        for row in rows:
            row.length += 1
        return logits

    def branch(self, row: CacheRow, ids: Ids, sees: Mask, wanted: Ids) -> Logits:
        self.cache.make_room(row, len(ids))
        return self._append(row, ids, wanted, row.length + sees.sum(axis=1) - 1, sees)

    def _append(
        self,
        row: CacheRow,
        ids: Ids,
        wanted: Ids,
        positions: Ids | None = None,
        sees: Mask = NOTHING_HIDDEN,
    ) -> Logits:
        """Run ids [n] on top of a row: the logits [count, vocab] of those at `wanted` [count]."""
        slots = row.length + np.arange(len(ids))
        if positions is None:
            positions = slots
        logits = self._run(ids, positions, np.full(len(ids), row.index), slots, wanted, sees)
        row.length += len(ids)
        return logits

    def _run(
        self,
        ids: Ids,
        positions: Ids,
        rows: Ids,
        slots: Ids,
        wanted: Ids,
        sees: Mask = NOTHING_HIDDEN,
    ) -> Logits:
        """One run of tokens: the logits [count, vocab]; keeps the hidden states behind them."""
        binding, arena = self._binding, self.cache.arena
        assert arena is not None  # a row was made before
        binding.bind(arena)
        feeds = {"input_ids": ids, "position_ids": positions, "rows": rows, "slots": slots}
        for name, value in {**feeds, "logits_index": wanted, "sees": sees}.items():
            binding.feed(name, value)
        logits = np.empty((len(wanted), self.vocab_size), np.float32)
        binding.fill("logits", logits)
        self.hidden_states = np.empty((len(wanted), self.hidden_size), np.float32)
        if self.hidden_size:
            binding.fill("hidden_states", self.hidden_states)
        self.session.run(binding.raw)
        return logits


class _ArenaBinding(Binding):
    """A binding whose cache is the whole arena, and an input only."""

    def __init__(self, session: Session, shape: CacheShape) -> None:
        super().__init__(session, shape)
        self._arena: ref[Arena] | None = None

    def bind(self, arena: Arena) -> None:
        """Bind the cache to an arena, unless it already is."""
        if self._arena == ref(arena):
            return
        shape = self._shape
        size = [arena.rows, shape.heads, arena.capacity, shape.head_dim]
        for tensor, address in enumerate(arena.addresses(0)):
            name = f"past_key_values.{tensor // 2}.{('key', 'value')[tensor % 2]}"
            self.raw.bind_input(name, "cpu", 0, shape.dtype.type, size, address)
        self._arena = ref(arena)


def _cache_shape(session: Session, n_positions: int) -> CacheShape:
    """The cache that the graph wants, read from its own inputs. Raises ModelFolderError."""
    if missing := [name for name in INPUTS if name not in session.inputs]:
        raise ModelFolderError(
            f"the kernels' graph's inputs are {', '.join(session.inputs)}: expected "
            f"{', '.join(missing)}, too; export the model again"
        )
    keys = [name for name in session.inputs if name.endswith(".key")]
    dtype, shape = session.inputs["past_key_values.0.key"]
    if len(shape) != 4 or not (isinstance(shape[1], int) and isinstance(shape[3], int)):
        raise ModelFolderError(
            f"past_key_values.0.key has the shape {shape}: expected [rows, heads, capacity, "
            "head_dim] with numbers for heads and head_dim; export the model again"
        )
    return CacheShape(len(keys), shape[1], shape[3], n_positions, dtype)
