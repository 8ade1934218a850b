"""Tells a session what a run reads and writes, and of that only what is new.

The KV cache's past and present are bound to one memory, so it is appended to in place.
https://onnxruntime.ai/docs/api/python/api_summary.html#iobinding
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.decoder.arena import Arena, CacheShape
from gpt2onnx.runtime.ort.session import Session


class Binding:
    """An onnxruntime.IOBinding with arrays of the host's, and the rows of a cache.

    An output that was bound once stays bound, so runs that want other outputs have one each.
    """

    def __init__(self, session: Session, shape: CacheShape) -> None:
        self.raw = session.raw.io_binding()
        self._session, self._shape = session, shape
        self._rows: tuple[ref[Arena], int, int] | None = None  # whose memory is the cache's to free
        self._held: dict[str, NDArray[Any]] = {}  # inputs that are bound
        self._filled: dict[str, ref[NDArray[Any]]] = {}  # outputs that are, to others' memory

    def feed(self, name: str, value: NDArray[Any]) -> None:
        """Give the graph an input: into the array that is bound already, where it has that shape.

        Binding copies to a device, so what is bound there can't be written any more.
        """
        held = self._held.get(name)
        if held is not None and held.shape == value.shape and self._session.runs_on.in_host_memory:
            held[...] = value
        else:
            held = np.array(value, self._session.inputs[name].dtype)
            self.raw.bind_cpu_input(name, held)
            self._held[name] = held

    def fill(self, name: str, to: NDArray[Any]) -> None:
        """Have an output written to a contiguous array, unless it already is."""
        filled = self._filled.get(name)
        if filled is None or filled() is not to:
            self.raw.bind_output(name, "cpu", 0, to.dtype.type, to.shape, to.ctypes.data)
            self._filled[name] = ref(to)

    def use(self, arena: Arena, first: int, count: int) -> None:
        """Bind past and present to `count` rows from `first` on, unless they already are."""
        rows = ref(arena), first, count
        if self._rows != rows:
            bind_cache(self.raw, arena, self._shape, first, count)
            self._rows = rows


class ArenaBinding(Binding):
    """A binding whose cache is the whole arena, and an input only: the kernels write to it."""

    def __init__(self, session: Session, shape: CacheShape) -> None:
        super().__init__(session, shape)
        self._arena: ref[Arena] | None = None

    def bind(self, arena: Arena) -> None:
        """Bind the cache to an arena, unless it already is."""
        if self._arena == ref(arena):
            return
        bind_cache(self.raw, arena, self._shape, 0, arena.rows, present=False)
        self._arena = ref(arena)


def bind_cache(
    binding: Any, arena: Arena, shape: CacheShape, first: int, count: int, present: bool = True
) -> None:
    """Bind past and, where the graph has it, present of an IOBinding to `count` rows."""
    size = [count, shape.heads, arena.capacity, shape.head_dim]
    where = (*arena.device, shape.dtype.type, size)
    for tensor, address in enumerate(arena.addresses(first)):
        name = f"{tensor // 2}.{('key', 'value')[tensor % 2]}"
        binding.bind_input(f"past_key_values.{name}", *where, address)
        if present:
            binding.bind_output(f"present.{name}", *where, address)
