"""Decoder over the graph of gpt2onnx-kernels' operators: flat tokens over the whole cache.

A run takes tokens of any rows, each of which says its row and its place there, so one run serves
the steps of all rows. The cache is an input that the graph writes to. Knows the graph's inputs
(export/graph/kernels.py lists them) and rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import ModelFolderError
from gpt2onnx.runtime.decoder.arena import Arena, CacheShape
from gpt2onnx.runtime.decoder.binding import Binding
from gpt2onnx.runtime.decoder.cached_rows import CachedRows
from gpt2onnx.runtime.decoder.kv_cache import CacheRow, KVCache
from gpt2onnx.runtime.decoder.protocol import (
    EVERY,
    Hidden,
    Logits,
    Read,
    Result,
    chunks,
    joined,
)
from gpt2onnx.runtime.machine.turns import in_turn
from gpt2onnx.runtime.ort.session import Session

INPUTS = (
    *("input_ids", "position_ids", "rows", "slots", "logits_index", "attention_mask"),
    *("past_key_values.0.key", "past_key_values.0.value"),
)
# Weights are read once a chunk, and its activations are scratch memory.
CHUNK = 256
NOTHING_HIDDEN = np.zeros((0, 0), np.bool_)


class FlatDecoder(CachedRows):
    """Rows of a KV cache, advanced by one ONNX Runtime session.

    Threads may share it, each with rows of its own: every method has its turn.
    """

    can_branch = True
    chunk = CHUNK

    def __init__(self, session: Session, n_positions: int) -> None:
        super().__init__(KVCache(_cache_shape(session, n_positions)))
        self.session = session
        self.n_positions = n_positions
        self.vocab_size = int(session.outputs["logits"].shape[-1])
        hidden = session.outputs.get("hidden_states")
        self.hidden_size = int(hidden.shape[-1]) if hidden else 0
        self._binding = _ArenaBinding(session, self.cache.shape)

    def gather(self, rows: Sequence[CacheRow]) -> None:
        """Does nothing: a run takes any rows."""

    @in_turn
    def read(self, reads: Sequence[Read]) -> list[Result]:
        for each in reads:
            self.cache.make_room(each.row, len(each.ids))
        parts = [(place, part) for place, each in enumerate(reads) for part in chunks(each, CHUNK)]
        found: list[list[Result]] = [[] for _ in reads]
        for run in _runs(parts):
            for (place, _), result in zip(run, self._run([p for _, p in run]), strict=True):
                found[place].append(result)
        return [joined(results) for results in found]

    def _run(self, reads: Sequence[Read]) -> list[Result]:
        """One run of all these reads' tokens."""
        counts = [len(each.ids) for each in reads]
        lengths = np.repeat([each.row.length for each in reads], counts)
        starts = np.cumsum([0, *counts[:-1]])
        slots = lengths + np.arange(len(lengths)) - np.repeat(starts, counts)
        positions, attention_mask = slots, NOTHING_HIDDEN
        if reads[0].attention_mask is not None:  # it is alone
            attention_mask = reads[0].attention_mask
            positions = lengths + attention_mask.sum(axis=1) - 1
        wanted = [
            start + np.arange(count)[EVERY if each.hidden else each.wanted]
            for start, count, each in zip(starts, counts, reads, strict=True)
        ]
        feeds = {
            "input_ids": np.concatenate([each.ids for each in reads]),
            "position_ids": positions,
            "rows": np.repeat([each.row.index for each in reads], counts),
            "slots": slots,
            "logits_index": np.concatenate(wanted),
            "attention_mask": attention_mask,
        }
        logits, hidden = self._outputs(feeds)
        for each in reads:
            each.row.length += len(each.ids)
        ends = np.cumsum([len(places) for places in wanted])
        parts = zip(reads, ends, wanted, strict=True)
        return [
            _result(each, logits[end - len(places) : end], hidden[end - len(places) : end])
            for each, end, places in parts
        ]

    def _outputs(self, feeds: Mapping[str, NDArray[Any]]) -> tuple[Logits, Hidden]:
        """Run the graph: the logits [wanted, vocab] and hidden states [wanted, hidden_size]."""
        binding, arena = self._binding, self.cache.arena
        assert arena is not None  # a row was made before
        binding.bind(arena)
        for name, value in feeds.items():
            binding.feed(name, value)
        count = len(feeds["logits_index"])
        logits = np.empty((count, self.vocab_size), np.float32)
        hidden = np.empty((count, self.hidden_size), np.float32)
        binding.fill("logits", logits)
        if self.hidden_size:
            binding.fill("hidden_states", hidden)
        self.session.run(binding.raw)
        return logits, hidden


def _result(read: Read, logits: Logits, hidden: Hidden) -> Result:  # [n, vocab], [n, hidden_size]
    # a copy: a view would hold on to the logits of all n
    return Result(logits[read.wanted].copy() if read.hidden else logits, hidden)


def _runs(parts: Iterable[tuple[int, Read]]) -> Iterator[list[tuple[int, Read]]]:
    """Reads in order, as many to a run as have CHUNK tokens together; a masked one has its own."""
    run: list[tuple[int, Read]] = []
    tokens = 0
    for place, part in parts:
        masked = part.attention_mask is not None
        if run and (
            masked or run[0][1].attention_mask is not None or tokens + len(part.ids) > CHUNK
        ):
            yield run
            run, tokens = [], 0
        run.append((place, part))
        tokens += len(part.ids)
    if run:
        yield run


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
