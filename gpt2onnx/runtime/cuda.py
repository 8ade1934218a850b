"""An arena of the KV cache in a CUDA device's memory.

ONNX Runtime allocates the memory and loads CUDA's runtime library; rows are copied by that
library's own functions, because ONNX Runtime copies whole tensors only.
https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__MEMORY.html
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Self

from gpt2onnx.errors import ProviderError
from gpt2onnx.runtime.cache import CacheShape, Positions
from gpt2onnx.runtime.session import Session

DEVICE_TO_DEVICE = 3
# The version that the provider uses, and no other that may be installed; Windows has no such mode.
LOADED_ONLY = getattr(os, "RTLD_NOLOAD", 0)
LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "cudart64_13.dll", "cudart64_12.dll")


class CudaArena:
    """Keys and values of all layers on the session's device: see cache.Arena."""

    def __init__(self, session: Session, shape: CacheShape, rows: int, capacity: int) -> None:
        self.rows, self.capacity = rows, capacity
        self._cuda = _runtime_library()
        self.device = ("cuda", session.device_id)
        self._token_bytes = shape.head_dim * shape.dtype.itemsize
        self._head_bytes = capacity * self._token_bytes
        self._row_bytes = shape.heads * self._head_bytes
        self._heads = shape.heads
        size = [rows, shape.heads, capacity, shape.head_dim]
        self._tensors = [session.allocate(size, shape.dtype) for _ in range(2 * shape.layers)]
        self._call("cudaSetDevice", self.device[1])
        # Attention may multiply what lies behind a row's end by zero: no NaN may be there.
        for tensor in self._tensors:
            self._call("cudaMemset", tensor.data_ptr(), 0, rows * self._row_bytes)
        self._call("cudaDeviceSynchronize")

    def addresses(self, row: int) -> list[int]:
        return [tensor.data_ptr() + row * self._row_bytes for tensor in self._tensors]

    def copy(self, source: Self, source_row: int, row: int, length: int, start: int = 0) -> None:
        if start == length:
            return
        skipped = start * self._token_bytes
        self._call("cudaSetDevice", self.device[1])  # which is what cudaDeviceSynchronize waits for
        there, here = source.addresses(source_row), self.addresses(row)
        for theirs, mine in zip(there, here, strict=True):
            self._call(
                "cudaMemcpy2D",
                *(mine + skipped, self._head_bytes),
                *(theirs + skipped, source._head_bytes),
                *(length * self._token_bytes - skipped, self._heads),
                DEVICE_TO_DEVICE,
            )
        # The copies run on the default stream, which ONNX Runtime's own stream doesn't wait for.
        self._call("cudaDeviceSynchronize")

    def move(self, row: int, positions: Positions, start: int) -> None:
        self._call("cudaSetDevice", self.device[1])
        for tensor in self.addresses(row):
            # One by one and in order, so that none is overwritten before it was moved.
            for target, position in enumerate(positions.tolist(), start):
                self._call(
                    "cudaMemcpy2D",
                    *(tensor + target * self._token_bytes, self._head_bytes),
                    *(tensor + position * self._token_bytes, self._head_bytes),
                    *(self._token_bytes, self._heads),
                    DEVICE_TO_DEVICE,
                )
        self._call("cudaDeviceSynchronize")

    def _call(self, function: str, *arguments: int) -> None:
        status = getattr(self._cuda, function)(*(ctypes.c_size_t(n) for n in arguments))
        if status:
            self._cuda.cudaGetErrorString.restype = ctypes.c_char_p
            reason = self._cuda.cudaGetErrorString(status).decode()
            raise ProviderError(f"{function} failed: {reason} (CUDA error {status})")


def _runtime_library() -> Any:
    """CUDA's runtime library, which the provider has loaded into the process."""
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name, mode=LOADED_ONLY)
        except OSError:
            continue
    raise ProviderError(
        f"none of {', '.join(LIBRARIES)} can be loaded, though the CUDA provider runs: "
        "pip install 'gpt2onnx[gpu]' brings CUDA's libraries"
    )
