"""Arrays in page-locked ("pinned") memory of the host, to which a device copies at full speed.

CUDA copies to any other memory piece by piece, through a buffer of its own. Locking pages takes
longer than what it saves once, so a block is given out again when no array is in it any more.
https://docs.nvidia.com/cuda/cuda-c-best-practices-guide/#pinned-memory
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpt2onnx.errors import OutOfMemoryError
from gpt2onnx.runtime.ort.cuda_runtime import CudaLibrary

# Below, a copy takes as long as beginning one.
LEAST = 1 << 16
# What may be locked at once, for one decoder: who keeps many steps' logits gets other memory.
MOST = 1 << 28


class PinnedMemory:
    """Blocks of one decoder, each of a power of two of bytes."""

    def __init__(self, cuda: CudaLibrary) -> None:
        self._cuda = cuda
        self._free: defaultdict[int, list[_Block]] = defaultdict(list)  # by size
        self._locked = 0

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """A new array, which the caller may keep; small ones and what is too much aren't locked."""
        element = np.dtype(dtype)
        needed = math.prod(shape) * element.itemsize
        if needed < LEAST:
            return np.empty(shape, element)
        size = 1 << (needed - 1).bit_length()
        free = self._free[size]
        block = free.pop() if free else self._new(size)
        return _array(block, free, shape, element) if block else np.empty(shape, element)

    def _new(self, size: int) -> _Block | None:
        """Another block; None where that would be too much."""
        if self._locked + size > MOST:  # those of other sizes may never be asked for again
            for other, blocks in self._free.items():
                self._locked -= other * len(blocks)
                blocks.clear()
        if self._locked + size > MOST:
            return None
        try:
            block = _Block(self._cuda, size)
        except OutOfMemoryError:  # of what can be locked: there may be other memory
            return None
        self._locked += size
        return block


def pinned(cuda: CudaLibrary, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """An array that is locked whatever its size. Raises OutOfMemoryError."""
    element = np.dtype(dtype)
    return _array(_Block(cuda, math.prod(shape) * element.itemsize), [], shape, element)


def _array(
    block: _Block, free: list[_Block], shape: Sequence[int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """An array in a block, which goes to `free` at the end of the array and its views."""
    return np.asarray(_Loan(block, free, tuple(shape), dtype))


class _Block:
    """Page-locked memory, until nothing refers to it."""

    def __init__(self, cuda: CudaLibrary, size: int) -> None:
        self._cuda = cuda
        self.address = cuda.allocate_host(size)

    def __del__(self) -> None:
        if hasattr(self, "address"):
            self._cuda.free_host(self.address)


class _Loan:
    """What an array and its views refer to: at their end the block is free again."""

    def __init__(
        self, block: _Block, free: list[_Block], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self._block, self._free = block, free
        self.__array_interface__ = {
            "data": (block.address, False),
            "shape": shape,
            "typestr": dtype.str,
            "version": 3,
        }

    def __del__(self) -> None:
        self._free.append(self._block)
