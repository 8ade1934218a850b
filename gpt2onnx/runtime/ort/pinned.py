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

from gpt2onnx.runtime.ort.cuda_runtime import CudaLibrary

# Below, a copy takes as long as beginning one.
LEAST = 1 << 16
# What may be locked at once, for one decoder: who keeps many steps' logits gets other memory.
MOST = 1 << 28


class PinnedMemory:
    """Blocks of one decoder, each of a power of two of bytes."""

    def __init__(self, cuda: CudaLibrary, least: int = LEAST) -> None:
        self._cuda, self._least = cuda, least
        self._free: defaultdict[int, list[_Block]] = defaultdict(list)  # by size
        self._locked = 0

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """A new array, which the caller may keep; small ones and what is too much aren't locked."""
        element = np.dtype(dtype)
        needed = math.prod(shape) * element.itemsize
        if needed < self._least:
            return np.empty(shape, element)
        size = 1 << (needed - 1).bit_length()
        free = self._free[size]
        if not free:
            if self._locked + size > MOST:
                return np.empty(shape, element)
            free.append(_Block(self._cuda, size))
            self._locked += size
        return np.asarray(_Loan(free.pop(), free, tuple(shape), element))


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
