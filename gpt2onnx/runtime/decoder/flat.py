"""Decoder over the graph of gpt2onnx-kernels' operators: flat tokens over the whole cache.

A run takes tokens of any rows, each of which says its row and its place there, so one run serves
the steps of all rows. The cache is an input that the graph writes to. Knows the graph's inputs
(export/graph/kernels.py lists them) and rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.decoder.bound_layout import TOP, BoundLayout, BoundLayouts
from gpt2onnx.runtime.decoder.cached_rows import CachedRows
from gpt2onnx.runtime.decoder.kv_cache import CacheRow, KVCache
from gpt2onnx.runtime.decoder.protocol import (
    NO_LOGITS,
    Ids,
    Logits,
    Read,
    Result,
    chunks,
    joined,
)
from gpt2onnx.runtime.decoder.signature import cache_shape, require_names, width
from gpt2onnx.runtime.decoder.writer import LoopWriter
from gpt2onnx.runtime.machine.turns import in_turn
from gpt2onnx.runtime.ort.session import Session
from gpt2onnx.samplers.top_logits import TopLogits

INPUTS = (
    *("input_ids", "position_ids", "rows", "slots", "logits_index", "attention_mask"),
    *("top_index", "temperatures", "outside"),
)
Arrays: TypeAlias = Mapping[str, NDArray[Any]]
# Weights are read once a chunk, and its activations are scratch memory.
CHUNK = 256
# So many logits are copied in less time than binding new memory takes.
COPIED = 1 << 16
OUTPUTS = ("logits", *TOP)
NOTHING_HIDDEN = np.zeros((0, 0), np.bool_)


class FlatDecoder(CachedRows):
    """Rows of a KV cache, advanced by one ONNX Runtime session.

    Threads may share it, each with rows of its own: every method has its turn.
    """

    can_branch = True
    exact_steps = True
    chunk = CHUNK
    writer: LoopWriter | None = None

    def __init__(
        self, session: Session, n_positions: int, open_loop: Callable[[], Session] | None = None
    ) -> None:
        """`open_loop` opens the graph that writes several tokens in one run, where there is one."""
        require_names(session, INPUTS, OUTPUTS)
        super().__init__(KVCache(cache_shape(session, n_positions)))
        if open_loop:
            self.writer = LoopWriter(self.cache, self.turns, open_loop)
        self.session = session
        self.n_positions = n_positions
        self.vocab_size = width(session, "logits")
        self.hidden_size = width(session, "hidden_states")
        self.top, *_ = [width(session, name) for name in TOP if name != "top_borders"]
        self._layouts = BoundLayouts(session, self.cache.shape)

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
        bound = self._layouts.of(reads)
        slots = positions = bound.layout.slots(reads)
        attention_mask = NOTHING_HIDDEN
        if reads[0].attention_mask is not None:  # it is alone
            attention_mask = reads[0].attention_mask
            positions = reads[0].row.length + attention_mask.sum(axis=1) - 1
        for name, value in (
            ("input_ids", _end_to_end([each.ids for each in reads])),
            ("position_ids", positions),
            ("slots", slots),
            ("attention_mask", attention_mask),
        ):
            bound.binding.feed(name, value)
        outputs = self._outputs(bound, self._logits(reads, bound))
        for each in reads:
            each.row.length += len(each.ids)
        return list(self._results(reads, bound, outputs))

    def _logits(self, reads: Sequence[Read], bound: BoundLayout) -> Logits:  # -> [wanted, vocab]
        """Where logits go: memory that stays bound, or new memory where much of it may be kept."""
        count = bound.layout.wanted
        if count * self.vocab_size > COPIED and any(each.needs >= self.top for each in reads):
            return self._layouts.memory.new("logits", count)
        return bound.logits

    def _outputs(self, bound: BoundLayout, logits: Logits) -> Arrays:
        """Run the graph on what it was fed: its outputs, [wanted, width] or [choices, width]."""
        binding, arena = bound.binding, self.cache.arena
        assert arena is not None  # a row was made before
        binding.bind(arena)
        outputs = {"logits": logits}
        if self.hidden_size:
            outputs["hidden_states"] = self._layouts.memory.new("hidden_states", len(logits))
        for name, output in outputs.items():
            binding.fill(name, output)
        self.session.run(binding.raw)
        return {**outputs, **{name: top.copy() for name, top in bound.top.items()}}

    def _results(
        self, reads: Sequence[Read], bound: BoundLayout, outputs: Arrays
    ) -> Iterator[Result]:
        """What came of each read, which has a span of the logits."""
        top = map(TopLogits, *(outputs[name] for name in TOP))
        is_reused = outputs["logits"] is bound.logits
        for each, span in zip(reads, bound.layout.spans, strict=True):
            logits = outputs["logits"][span]
            largest = [] if each.temperature is None else list(islice(top, len(logits)))
            if each.hidden:  # a copy: a view would hold on to the logits of all n
                logits = logits[each.wanted].copy()
                if largest:
                    largest = [largest[place] for place in np.arange(len(largest))[each.wanted]]
            if largest and all(row.settles(each.needs) for row in largest):
                logits = NO_LOGITS
            elif is_reused:
                logits = logits.copy()
            hidden = outputs["hidden_states"][span] if self.hidden_size else NO_LOGITS
            yield Result(logits, hidden, largest)


def _end_to_end(parts: Sequence[Ids]) -> Ids:  # [n] each
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


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
