"""Layouts of runs that the session knows: what is the same in all runs of one is bound once.

Binding takes microseconds an input or output, which are a tenth of what a small model's step takes.
Knows the names of the kernels' graph's outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.decoder.arena import CacheShape
from gpt2onnx.runtime.decoder.binding import ArenaBinding
from gpt2onnx.runtime.decoder.layout import Kind, Layout, kind_of
from gpt2onnx.runtime.decoder.protocol import Read
from gpt2onnx.runtime.ort.session import Session

# TopLogits's fields
TOP = ("top_ids", "top_logits", "top_logprobs", "top_sums", "top_borders")
# As many layouts are kept as a drafter has lengths of drafts, and some more.
KEPT = 24


class OutputMemory:
    """Memory that runs write to one after the other: as much as the largest of them wanted."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._arrays: dict[str, NDArray[Any]] = {}

    def rows(self, name: str, count: int) -> NDArray[Any]:  # -> [count, ...]
        """Memory for so many rows of an output, which other runs write to as well."""
        array = self._arrays.get(name)
        if array is None or len(array) < count:
            array = self._arrays[name] = self.new(name, 1 << (count - 1).bit_length())
        return array[:count]

    def new(self, name: str, count: int) -> NDArray[Any]:  # -> [count, ...]
        """Memory of the caller's own."""
        dtype, shape = self._session.outputs[name]
        return np.empty((count, *map(int, shape[1:])), dtype)


class BoundLayout:
    """A layout with a binding of its own, and where its runs write to."""

    def __init__(
        self, session: Session, shape: CacheShape, memory: OutputMemory, layout: Layout
    ) -> None:
        self.layout = layout
        self.binding = ArenaBinding(session, shape)
        for name, value in layout.inputs.items():
            self.binding.feed(name, value)
        self.logits = memory.rows("logits", layout.wanted)
        self.top = {name: memory.rows(name, layout.choices) for name in TOP}
        for name, output in self.top.items():
            self.binding.fill(name, output)


class BoundLayouts:
    """The newest layouts of a session's runs."""

    def __init__(self, session: Session, shape: CacheShape) -> None:
        self.memory = OutputMemory(session)
        self._session, self._shape = session, shape
        self._kept: dict[Kind, BoundLayout] = {}  # the one used last at the end

    def of(self, reads: Sequence[Read]) -> BoundLayout:
        """The layout of some reads that share a run."""
        kind = kind_of(reads)
        bound = self._kept.pop(kind, None)
        if bound is None:
            bound = BoundLayout(self._session, self._shape, self.memory, Layout(reads))
            if len(self._kept) == KEPT:
                del self._kept[next(iter(self._kept))]
        self._kept[kind] = bound
        return bound
