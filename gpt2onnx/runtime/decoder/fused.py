"""Decoder over the fused graph: attention appends to the cache in place.

Binds the graph's past and present to the same addresses of the cache's arena, so nothing of the
cache's size is ever copied. Knows the graph's inputs (export/graph/fused.py lists them) and rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.decoder.arena import ArenaFactory, HostArena
from gpt2onnx.runtime.decoder.binding import Binding
from gpt2onnx.runtime.decoder.cached_rows import CachedRows
from gpt2onnx.runtime.decoder.cuda_arena import CudaArenas
from gpt2onnx.runtime.decoder.cuda_graphs import StepGraphs
from gpt2onnx.runtime.decoder.dense_cache import DenseCache
from gpt2onnx.runtime.decoder.kv_cache import CacheRow
from gpt2onnx.runtime.decoder.protocol import (
    EVERY,
    NO_LOGITS,
    Ids,
    Mask,
    Read,
    Result,
    chunks,
    joined,
)
from gpt2onnx.runtime.decoder.signature import (
    cache_names,
    cache_shape,
    refuse_captures,
    require_names,
    width,
)
from gpt2onnx.runtime.machine.turns import in_turn
from gpt2onnx.runtime.ort.cuda_runtime import CudaLibrary
from gpt2onnx.runtime.ort.pinned import PinnedMemory
from gpt2onnx.runtime.ort.session import Session
from gpt2onnx.samplers.top_logits import TopLogits

INPUTS = ("input_ids", "position_ids", "seqlens_k", "total_sequence_length", "logits_index")
BIAS = "attention_bias"
WHOLE = ("logits", "hidden_states")  # the second where the graph gives it
TOP = ("top_ids", "top_logits", "top_logprobs")  # TopLogits's fields
Arrays = Mapping[str, NDArray[Any]]  # by name; outputs are [count, width]
_Placed: TypeAlias = tuple[int, Result]  # where among the reads, and what came of it
# Attention costs the square of a chunk, matrices want many rows: 128 was within 8 % of the best on
# one processor and the best on another (docs/notes/decoder.md). It also bounds the scratch memory.
PREFILL_CHUNK = 128
# A GPU takes about as long to be told of a short chunk as of a long one.
DEVICE_CHUNK = 1024


class FusedDecoder(CachedRows):
    """Rows of a KV cache, advanced by one ONNX Runtime session.

    Threads may share it, each with rows of its own: every method has its turn.
    """

    cache: DenseCache

    def __init__(self, session: Session, n_positions: int) -> None:
        present = [f"present.{name}" for name in cache_names(session)]
        require_names(session, INPUTS, ["logits", *present])
        if BIAS in session.inputs:
            refuse_captures(session, "its attention bias has another size at every step")
        super().__init__(DenseCache(cache_shape(session, n_positions), arena_of(session)))
        self.session = session
        self.n_positions = n_positions
        self.vocab_size = width(session, "logits")
        self.hidden_size = width(session, "hidden_states")
        self.top, *_ = [width(session, name) for name in TOP]
        self._whole = WHOLE if self.hidden_size else WHOLE[:1]
        self.can_branch = BIAS in session.inputs
        self.chunk = PREFILL_CHUNK if session.runs_on.in_host_memory else DEVICE_CHUNK
        bind = partial(Binding, session, self.cache.shape)
        self._bindings: dict[tuple[str, ...], Binding] = defaultdict(bind)  # by outputs
        self._new: Callable[..., NDArray[Any]] = np.empty  # for what comes from the device
        if session.runs_on.in_cuda_memory:
            self._new = PinnedMemory(CudaLibrary(session.device_id)).empty
        self._graphs = None
        if session.captures:
            self._graphs = StepGraphs(session, self.cache.shape)

    @in_turn
    def gather(self, rows: Sequence[CacheRow]) -> None:
        self.cache.gather(rows)

    @in_turn
    def read(self, reads: Sequence[Read]) -> list[Result]:
        for each in reads:
            self.cache.make_room(each.row, len(each.ids))
        results: list[Result | None] = [
            None if len(each.ids) == 1 else self._read_alone(each) for each in reads
        ]
        if lone := [place for place, result in enumerate(results) if result is None]:
            stepped = self._step([reads[place] for place in lone])
            for place, result in zip(lone, stepped, strict=True):
                results[place] = result
        return cast(list[Result], results)

    def _read_alone(self, read: Read) -> Result:
        return joined([self._read_chunk(part) for part in chunks(read, self.chunk)])

    def _read_chunk(self, read: Read) -> Result:
        """Run one row's tokens on top of it."""
        row, ids = read.row, read.ids
        wanted = np.arange(len(ids))[EVERY if read.hidden else read.wanted]
        outputs = self._empty(len(wanted))
        told = None if read.attention_mask is None else self._branches(row, read.attention_mask)
        self._run(row.index, ids[None], np.array([row.length]), wanted, outputs, told)
        row.length += len(ids)
        logits = outputs["logits"]
        if read.hidden:  # a copy: a view would hold on to the logits of all n
            logits = logits[read.wanted].copy()
        return Result(logits, outputs.get("hidden_states", NO_LOGITS))

    def _branches(self, row: CacheRow, attention_mask: Mask) -> Arrays:
        """The inputs that say what each of the next tokens sees: [n, n]."""
        dtype = self.session.inputs[BIAS].dtype
        bias = np.zeros((1, 1, len(attention_mask), row.length + len(attention_mask)), dtype)
        bias[0, 0, :, row.length :][~attention_mask] = np.finfo(dtype).min
        return {"position_ids": (row.length + attention_mask.sum(axis=1) - 1)[None], BIAS: bias}

    def _step(self, reads: Sequence[Read]) -> list[Result]:
        """Append a token to each row, all in one run where they may share it."""
        if not self.top:
            return self._step_whole(reads)
        results: dict[int, Result] = {}
        if few := [place for place, each in enumerate(reads) if each.needs < self.top]:
            results.update(self._step_largest(few, reads))
        rest = [place for place in range(len(reads)) if place not in results]
        if rest:
            results.update(zip(rest, self._step_whole([reads[p] for p in rest]), strict=True))
        return [results[place] for place in range(len(reads))]

    def _step_largest(self, few: Sequence[int], reads: Sequence[Read]) -> Iterator[_Placed]:
        """The results of the reads at `few` whose choice the largest logits settle.

        The others' rows are as they were before.
        """
        outputs = self._stepped([reads[place] for place in few], TOP)
        for place, *row in zip(few, *(outputs[name] for name in TOP), strict=True):
            largest = TopLogits(*row)
            if largest.settles(reads[place].needs):
                yield place, Result(NO_LOGITS, top_logits=[largest])
            else:
                reads[place].row.length -= 1

    def _step_whole(self, reads: Sequence[Read]) -> list[Result]:
        outputs = self._stepped(reads, self._whole)
        logits = outputs["logits"]
        hidden = outputs.get("hidden_states", NO_LOGITS)
        return [
            Result(logits[place : place + 1], hidden[place : place + 1])
            for place in range(len(reads))
        ]

    def _stepped(self, reads: Sequence[Read], names: Sequence[str]) -> Arrays:
        """Append each read's one token to its row: the outputs of these names, [reads, width]."""
        rows = [each.row for each in reads]
        ids = np.array([each.ids[0] for each in reads])
        outputs = self._empty(len(rows), names)
        if _in_order(rows):
            self._run_step(rows, ids, outputs)
        else:
            for run in _contiguous(rows):
                found = self._empty(len(run), names)
                self._run_step([rows[position] for position in run], ids[run], found)
                for name, output in outputs.items():
                    output[run] = found[name]
        for row in rows:
            row.length += 1
        return outputs

    def _run_step(self, rows: Sequence[CacheRow], ids: Ids, outputs: Arrays) -> None:
        """Run ids [rows] on top of rows that follow each other in the arena."""
        lengths = np.array([row.length for row in rows])
        first, arena = rows[0].index, self.cache.arena
        if self._graphs and arena and not first:
            alone = len(rows) == len(self.cache.rows)
            self._graphs.step(arena, ids, lengths, outputs, spare=alone)
        else:
            self._run(first, ids[:, None], lengths, np.arange(len(rows)), outputs)

    def _empty(self, count: int, names: Sequence[str] = ()) -> Arrays:
        """Where outputs of `count` positions go: new arrays, which the caller may keep."""
        given = self.session.outputs
        return {
            name: self._new((count, int(given[name].shape[-1])), given[name].dtype)
            for name in names or self._whole
        }

    def _run(
        self,
        first: int,
        ids: Ids,
        past: Ids,
        wanted: Ids,
        outputs: Arrays,
        told: Arrays | None = None,
    ) -> None:
        """Run ids [rows, n] on top of `past` [rows] tokens in the rows from `first` on.

        `outputs` take what there is of the positions `wanted` [count]. `told` are inputs in place
        of what follows from these: each token sees all before it.
        """
        arena, binding = self.cache.arena, self._bindings[tuple(outputs)]
        assert arena is not None  # a row was made before
        binding.use(arena, first, len(ids))
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
            binding.feed(name, value)
        for name, output in outputs.items():
            binding.fill(name, output)
        self.session.run(binding.raw)


def arena_of(session: Session) -> ArenaFactory:
    """Where the session's device keeps a cache."""
    if session.runs_on.in_cuda_memory:
        return CudaArenas(session)
    return HostArena


def _in_order(rows: Sequence[CacheRow]) -> bool:
    """Whether `rows` follow each other in the arena, as those of a batch do."""
    return all(row.index == rows[0].index + position for position, row in enumerate(rows))


def _contiguous(rows: Sequence[CacheRow]) -> list[list[int]]:
    """Positions in `rows`, grouped into runs of neighbouring rows of the arena."""
    order = sorted(range(len(rows)), key=lambda position: rows[position].index)
    by_gap = groupby(enumerate(order), key=lambda pair: rows[pair[1]].index - pair[0])
    return [[position for _, position in run] for _, run in by_gap]
