"""Decode steps as CUDA graphs: a step's hundreds of kernels are launched as one.

A graph replays what was captured, on the addresses and with the numbers of the host's memory that
it was captured with. So everything a step reads or writes lies in buffers that stay, its few inputs
are copied there in one piece, and the one number that attention reads on the host, the longest
row's length, is always the arena's capacity: how far each row really goes, seqlens_k tells on the
device. ONNX Runtime runs a step that is new several times, to allocate, to capture and to replay,
which is harmless: each writes the same keys and values to the same place.

Capturing takes as long as many steps, so that not every number of rows has a graph: a batch whose
sequences end one by one goes on with rows that nobody reads, up to the next power of two.
https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#using-cuda-graphs-preview
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.decoder.arena import Arena, CacheShape
from gpt2onnx.runtime.decoder.binding import bind_cache
from gpt2onnx.runtime.ort.cuda_runtime import CudaLibrary
from gpt2onnx.runtime.ort.pinned import pinned
from gpt2onnx.runtime.ort.session import Session

Ints = NDArray[np.int64]
# Inputs on the device, and their lines in the one buffer of 8 bytes a row and line.
LINES = ("input_ids", "position_ids", "logits_index", "seqlens_k")
PRESENT = "present."  # an output of the cache, which lies in the arena
TOP = "top_"  # an output of the largest logits, which kernels write


class StepGraphs:
    """One token for each of an arena's first rows, by graphs captured for a few numbers of rows."""

    def __init__(self, session: Session, shape: CacheShape) -> None:
        self._session, self._shape = session, shape
        self._cuda = CudaLibrary(session.device_id)
        self._numbers = count(1)
        self._buffers: _Buffers | None = None
        self._graphs: dict[int, tuple[Any, int]] = {}  # by rows: the binding, the graph's number

    def step(
        self,
        arena: Arena,
        ids: Ints,
        past: Ints,
        outputs: Mapping[str, NDArray[Any]],
        spare: bool = False,
    ) -> None:
        """Append ids [rows] to the first rows, which hold `past` [rows] tokens.

        `outputs` [rows, width] by name, contiguous, are filled. `spare` says that no sequence has
        the arena's other rows, which may then be written to.
        """
        buffers = self._buffers_of(arena)
        rows = min(power_of_two(len(ids)), arena.rows) if spare else len(ids)
        binding, number = self._graph(buffers, rows)
        buffers.hold(ids, past)
        with self._cuda.waiting():
            self._cuda.write(buffers.address, buffers.lines)
        self._session.run(binding, number)
        buffers.outputs.read(outputs)

    def _buffers_of(self, arena: Arena) -> _Buffers:
        """The buffers of an arena. Those of another, and what was captured on it, are let go."""
        if self._buffers is None or self._buffers.arena is not arena:
            for _, number in self._graphs.values():
                self._session.raw.release_captured_graph(number)
            self._graphs.clear()
            self._buffers = None  # before the next ones take memory
            self._buffers = _Buffers(self._session, arena, self._cuda)
        return self._buffers

    def _graph(self, buffers: _Buffers, rows: int) -> tuple[Any, int]:
        if rows not in self._graphs:
            binding = self._session.raw.io_binding()
            buffers.bind(binding, rows)
            bind_cache(binding, buffers.arena, self._shape, 0, rows)
            self._graphs[rows] = binding, next(self._numbers)
        return self._graphs[rows]


class _Buffers:
    """Where the steps of one arena read and write, for as many rows as it has."""

    def __init__(self, session: Session, arena: Arena, cuda: CudaLibrary) -> None:
        self.arena = arena
        self.lines = np.zeros((len(LINES), arena.rows), np.int64)
        self._capacity = np.array(arena.capacity, np.int32)
        self._inputs = session.allocate(self.lines.shape, self.lines.dtype)
        self.outputs = _Outputs(session, arena, cuda)

    @property
    def address(self) -> int:
        """Where the lines lie on the device."""
        address: int = self._inputs.data_ptr()
        return address

    def hold(self, ids: Ints, past: Ints) -> None:
        """Set the lines for a step of ids [rows] on top of `past` [rows] tokens.

        Rows behind them, which a graph may run as well, are given a first token.
        """
        rows = len(ids)
        self.lines[:] = 0
        self.lines[2] = np.arange(self.lines.shape[1])
        self.lines[:2, :rows] = ids, past
        self.lines[3].view(np.int32)[:rows] = past  # seqlens_k is a row's new length - 1

    def bind(self, binding: Any, rows: int) -> None:
        """Bind all but the cache, for the first `rows` rows."""
        sizes = [rows, 1], [rows, 1], [rows], [rows]
        types = np.int64, np.int64, np.int64, np.int32
        for line, (name, size, dtype) in enumerate(zip(LINES, sizes, types, strict=True)):
            address = self.address + line * self.lines.strides[0]
            binding.bind_input(name, *self.arena.device, dtype, size, address)
        binding.bind_cpu_input("total_sequence_length", self._capacity)
        self.outputs.bind(binding, rows)


class _Outputs:
    """What steps give but the cache: outputs [rows, width], for as many rows as the arena has.

    The largest logits lie in the host's memory, locked there, where the device writes them: a copy
    would take longer to begin. All logits and hidden states lie in the device's, since they may be
    copied there by ONNX Runtime.
    """

    def __init__(self, session: Session, arena: Arena, cuda: CudaLibrary) -> None:
        self._device, self._cuda = arena.device, cuda
        self._specs = {
            name: (dtype, int(shape[1]))  # a row's elements, and how many
            for name, (dtype, shape) in session.outputs.items()
            if not name.startswith(PRESENT)
        }
        self._here: dict[str, NDArray[Any]] = {}
        self._there: dict[str, Any] = {}
        for name, (dtype, width) in self._specs.items():
            shape = arena.rows, width
            if name.startswith(TOP):
                self._here[name] = pinned(cuda, shape, dtype)
            else:
                self._there[name] = session.allocate(shape, dtype)

    def bind(self, binding: Any, rows: int) -> None:
        """Bind the first `rows` rows of all."""
        places = {name: array.ctypes.data for name, array in self._here.items()}
        places |= {name: memory.data_ptr() for name, memory in self._there.items()}
        for name, (dtype, width) in self._specs.items():
            binding.bind_output(name, *self._device, dtype.type, [rows, width], places[name])

    def read(self, into: Mapping[str, NDArray[Any]]) -> None:
        """Fill arrays with the first rows of the outputs of these names."""
        for name, array in into.items():
            if name in self._here:
                array[:] = self._here[name][: len(array)]
            else:
                self._cuda.read(self._there[name].data_ptr(), array)


def power_of_two(least: int) -> int:
    """The first one that isn't below `least`, which is at least 1."""
    return 1 << (least - 1).bit_length()
