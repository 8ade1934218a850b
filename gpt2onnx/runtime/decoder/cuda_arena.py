"""An arena of the KV cache in a CUDA device's memory.

ONNX Runtime allocates the memory; rows are copied by CUDA's own functions, because ONNX Runtime
copies whole tensors only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from gpt2onnx.runtime.decoder.arena import Block, CacheShape, Positions
from gpt2onnx.runtime.ort.cuda_runtime import DEVICE_TO_HOST, HOST_TO_DEVICE, CudaLibrary
from gpt2onnx.runtime.ort.session import Session


class CudaArena:
    """Keys and values of all layers on the session's device: see cache.Arena."""

    def __init__(self, session: Session, shape: CacheShape, rows: int, capacity: int) -> None:
        self.rows, self.capacity = rows, capacity
        self.device = ("cuda", session.device_id)
        self._cuda = CudaLibrary(session.device_id)
        self._token_bytes = shape.head_dim * shape.dtype.itemsize
        self._head_bytes = capacity * self._token_bytes
        self._row_bytes = shape.heads * self._head_bytes
        self._heads = shape.heads
        self._session, self._shape = session, shape
        self._tensors = [self._allocate(rows) for _ in range(2 * shape.layers)]
        self.clear()

    def _allocate(self, rows: int) -> Any:
        """A tensor of the arena's, of that many rows, with nonsense in it."""
        size = [rows, self._shape.heads, self.capacity, self._shape.head_dim]
        return self._session.allocate(size, self._shape.dtype)

    def clear(self) -> None:
        """Attention may multiply what lies behind a row's end by zero: no NaN may be there."""
        with self._cuda.waiting():
            for tensor in self._tensors:
                self._cuda.clear(tensor.data_ptr(), self.rows * self._row_bytes)

    def addresses(self, row: int) -> list[int]:
        return [tensor.data_ptr() + row * self._row_bytes for tensor in self._tensors]

    def copy(self, source: Self, source_row: int, row: int, length: int, start: int = 0) -> None:
        if start == length:
            return
        skipped, width = start * self._token_bytes, (length - start) * self._token_bytes
        there, here = source.addresses(source_row), self.addresses(row)
        with self._cuda.waiting():
            for theirs, mine in zip(there, here, strict=True):
                self._cuda.copy_rows(
                    to=mine + skipped,
                    to_pitch=self._head_bytes,
                    source=theirs + skipped,
                    source_pitch=source._head_bytes,
                    width=width,
                    height=self._heads,
                )

    def swap(self, row: int, other: int, length: int) -> None:
        if not length:
            return
        spare = self._allocate(rows=1)  # for one tensor after the other: copies keep their order
        with self._cuda.waiting():
            for one, two in zip(self.addresses(row), self.addresses(other), strict=True):
                for source, to in ((one, spare.data_ptr()), (two, one), (spare.data_ptr(), two)):
                    self._cuda.copy_rows(
                        to=to,
                        to_pitch=self._head_bytes,
                        source=source,
                        source_pitch=self._head_bytes,
                        width=length * self._token_bytes,
                        height=self._heads,
                    )

    def move(self, row: int, positions: Positions, start: int) -> None:
        with self._cuda.waiting():
            for tensor in self.addresses(row):
                # One by one and in order, so that none is overwritten before it was moved.
                for target, position in enumerate(positions.tolist(), start):
                    self._cuda.copy_rows(
                        to=tensor + target * self._token_bytes,
                        to_pitch=self._head_bytes,
                        source=tensor + position * self._token_bytes,
                        source_pitch=self._head_bytes,
                        width=self._token_bytes,
                        height=self._heads,
                    )

    def read(self, row: int, start: int, into: Block) -> None:
        width = into.shape[2] * self._token_bytes
        with self._cuda.waiting():
            for part, tensor in zip(into, self.addresses(row), strict=True):
                self._cuda.copy_rows(
                    to=part.ctypes.data,
                    to_pitch=width,
                    source=tensor + start * self._token_bytes,
                    source_pitch=self._head_bytes,
                    width=width,
                    height=self._heads,
                    kind=DEVICE_TO_HOST,
                )

    def write(self, row: int, start: int, blocks: Sequence[Block]) -> None:
        there = [address + start * self._token_bytes for address in self.addresses(row)]
        with self._cuda.waiting():
            for block in blocks:
                width = block.shape[2] * self._token_bytes
                for part, tensor in zip(block, there, strict=True):
                    if width:
                        self._cuda.copy_rows(
                            to=tensor,
                            to_pitch=self._head_bytes,
                            source=part.ctypes.data,
                            source_pitch=width,
                            width=width,
                            height=self._heads,
                            kind=HOST_TO_DEVICE,
                        )
                there = [address + width for address in there]


class CudaArenas:
    """Makes arenas, and keeps the last one for when the cache, emptied, asks again.

    ONNX Runtime's allocator keeps the memory anyway, and CUDA graphs hold an arena's addresses: one
    that stays needs none captured anew. For one cache, which asks for an arena only where it has
    none, or one that is too small: so an arena that is large enough isn't in use.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: CudaArena | None = None

    def __call__(self, shape: CacheShape, rows: int, capacity: int) -> CudaArena:
        kept = self._kept
        if kept is not None and kept.rows >= rows and kept.capacity >= capacity:
            kept.clear()
            return kept
        self._kept = CudaArena(self._session, shape, rows, capacity)
        return self._kept
