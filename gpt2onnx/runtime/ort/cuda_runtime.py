"""The functions of CUDA's runtime library that are called directly: copying, waiting, locking.

The library is the one that ONNX Runtime's provider has loaded. ONNX Runtime works on a stream of
its own, made with cudaStreamNonBlocking, the copies here on the default stream, and neither waits
for the other: the host does. ONNX Runtime's run, a graph's replay as well, is over on the device
when it returns, unless its run option disable_synchronize_execution_providers is set, which the
runtime never does. So nothing runs before a copy; what changes the device's memory is waited for,
because CUDA may return from it before; and what is read is there when CUDA returns.
https://docs.nvidia.com/cuda/cuda-runtime-api/api-sync-behavior.html
https://github.com/microsoft/onnxruntime/blob/main/include/onnxruntime/core/session/onnxruntime_run_options_config_keys.h
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from gpt2onnx.errors import OutOfMemoryError, ProviderError

PORTABLE = 1  # cudaHostAllocPortable
NO_MEMORY = 2  # cudaErrorMemoryAllocation
HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3
# The version that the provider uses, and no other that may be installed; Windows has no such mode.
LOADED_ONLY = getattr(os, "RTLD_NOLOAD", 0)
LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "cudart64_13.dll", "cudart64_12.dll")


class CudaLibrary:
    """CUDA's functions for one device. Raises ProviderError, with CUDA's own reason."""

    def __init__(self, device: int) -> None:
        self.device = device
        self._cuda = _runtime_library()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what changes the device's memory: it is over at the end.

        A thread's first call says which device it speaks of, so each says it.
        """
        self._call("cudaSetDevice", self.device)
        yield
        self._call("cudaDeviceSynchronize")

    def clear(self, address: int, size: int) -> None:
        """Write zeros to `size` bytes of the device. Inside `waiting`."""
        self._call("cudaMemset", address, 0, size)

    def copy_rows(
        self,
        *,
        to: int,
        to_pitch: int,
        source: int,
        source_pitch: int,
        width: int,
        height: int,
        kind: int = DEVICE_TO_DEVICE,
    ) -> None:
        """Copy `height` rows of `width` bytes, which begin a pitch apart. Inside `waiting`."""
        self._call("cudaMemcpy2D", to, to_pitch, source, source_pitch, width, height, kind)

    def write(self, address: int, value: NDArray[Any]) -> None:
        """Copy a contiguous array to the device. Inside `waiting`."""
        self._call("cudaMemcpy", address, value.ctypes.data, value.nbytes, HOST_TO_DEVICE)

    def read(self, address: int, into: NDArray[Any]) -> None:
        """Fill a contiguous array from the device, of which this thread has spoken before."""
        self._call("cudaMemcpy", into.ctypes.data, address, into.nbytes, DEVICE_TO_HOST)

    def allocate_host(self, size: int) -> int:
        """The address of `size` bytes of the host's memory, locked there for every device.

        Raises OutOfMemoryError where there is no more that could be.
        """
        place = ctypes.c_void_p()
        self._call("cudaSetDevice", self.device)
        self._call("cudaHostAlloc", ctypes.addressof(place), size, PORTABLE)
        assert place.value is not None
        return place.value

    def free_host(self, address: int) -> None:
        # At the process' end CUDA may be gone before, and says so: nothing is left to free then. A
        # thread that has not spoken of a device would begin with the first one.
        self._cuda.cudaSetDevice(ctypes.c_size_t(self.device))
        self._cuda.cudaFreeHost(ctypes.c_size_t(address))

    def _call(self, function: str, *arguments: int) -> None:
        status = getattr(self._cuda, function)(*(ctypes.c_size_t(n) for n in arguments))
        if status:
            self._cuda.cudaGetErrorString.restype = ctypes.c_char_p
            reason = self._cuda.cudaGetErrorString(status).decode()
            self._cuda.cudaGetLastError()  # or ONNX Runtime would come upon it
            said = f"{function} failed: {reason} (CUDA error {status})"
            if status == NO_MEMORY:
                raise OutOfMemoryError(f"{said}: take fewer sequences at once, or shorter ones")
            raise ProviderError(said)


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
