"""The GPU's memory in use and its energy, from NVIDIA's management library (NVML).

Where several devices are there, NVML and CUDA may number them differently, so the one must be named
by CUDA_VISIBLE_DEVICES=GPU-…; else there is no figure.
https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

LIBRARIES = ("libnvidia-ml.so.1", "nvml.dll")


class UnknownError(Exception):
    """NVML isn't there, or doesn't tell; the message says why."""


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class Device:
    """The device that CUDA uses. Each call raises UnknownError."""

    def __init__(self, library: Any = None) -> None:
        self._nvml = _library() if library is None else library
        self._call("nvmlInit_v2")
        self._handle = ctypes.c_void_p()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        handle = ctypes.byref(self._handle)
        if visible.startswith("GPU-") and "," not in visible:
            self._call("nvmlDeviceGetHandleByUUID", visible.encode(), handle)
        elif count.value == 1:
            self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(0), handle)
        else:
            raise UnknownError(
                f"{count.value} NVIDIA devices: name one by CUDA_VISIBLE_DEVICES=GPU-… "
                "(nvidia-smi -L lists them)"
            )

    def name(self) -> str:
        text = ctypes.create_string_buffer(96)
        self._call("nvmlDeviceGetName", self._handle, text, ctypes.c_uint(96))
        return text.value.decode()

    def used_bytes(self) -> int:
        """Memory in use, whoever uses it."""
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", self._handle, ctypes.byref(memory))
        return int(memory.used)

    def joules(self) -> float:
        """Since the driver was loaded."""
        millijoules = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._handle, ctypes.byref(millijoules))
        return millijoules.value / 1e3

    def _call(self, function: str, *arguments: Any) -> None:
        if status := getattr(self._nvml, function)(*arguments):
            raise UnknownError(f"{function} gave NVML's error {status}")


def _library() -> Any:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise UnknownError(
        f"none of {', '.join(LIBRARIES)} can be loaded: NVML comes with NVIDIA's driver"
    )
