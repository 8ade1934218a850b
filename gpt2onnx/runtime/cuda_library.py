"""CUDA's runtime library, as far as the runtime calls it itself: copies, and waiting for them.

The library is the one that ONNX Runtime's provider has loaded. Every copy here is over when it
returns, and waits for whatever ran on the device before: ONNX Runtime works on a stream of its own,
made with cudaStreamNonBlocking, which copies on the default stream neither wait for nor hold up.
https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__MEMORY.html
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from gpt2onnx.errors import ProviderError

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3
# The version that the provider uses, and no other that may be installed; Windows has no such mode.
LOADED_ONLY = getattr(os, "RTLD_NOLOAD", 0)
LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "cudart64_13.dll", "cudart64_12.dll")


class CudaLibrary:
    """CUDA's functions for one device. Errors: ProviderError, with CUDA's own reason."""

    def __init__(self, device: int) -> None:
        self.device = device
        self._cuda = _runtime_library()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Between what ran on the device before and what will: nothing else runs there meanwhile.

        A thread's first call says which device it speaks of, so each says it.
        """
        self._call("cudaSetDevice", self.device)
        self._call("cudaDeviceSynchronize")
        yield
        self._call("cudaDeviceSynchronize")

    def clear(self, address: int, size: int) -> None:
        """Write zeros to `size` bytes of the device. Inside `alone`."""
        self._call("cudaMemset", address, 0, size)

    def copy_rows(
        self, to: int, to_pitch: int, by: int, by_pitch: int, width: int, height: int
    ) -> None:
        """Copy `height` rows of `width` bytes, which begin a pitch apart. Inside `alone`."""
        self._call("cudaMemcpy2D", to, to_pitch, by, by_pitch, width, height, DEVICE_TO_DEVICE)

    def write(self, address: int, value: NDArray[Any]) -> None:
        """Copy a contiguous array to the device. Inside `alone`."""
        self._call("cudaMemcpy", address, value.ctypes.data, value.nbytes, HOST_TO_DEVICE)

    def read(self, address: int, into: NDArray[Any]) -> None:
        """Fill a contiguous array from the device. Inside `alone`."""
        self._call("cudaMemcpy", into.ctypes.data, address, into.nbytes, DEVICE_TO_HOST)

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
