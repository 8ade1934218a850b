"""What a stretch of work takes of the machine: energy, and the device's memory.

A figure that the machine doesn't tell is None, and `reasons` says why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpt2onnx.compare import nvml, rapl


class Meter:
    """Begins when made. The device is asked only where the work uses it.

    Counters are the whole package's and the whole device's: other work on them counts as well.
    """

    def __init__(self, uses_device: bool, root: Path = rapl.ROOT, library: Any = None) -> None:
        self.reasons: dict[str, str] = {}
        self._zones = rapl.zones(root)
        if isinstance(self._zones, str):
            self.reasons["cpu"] = self._zones
        self._device = self._find_device(library) if uses_device else None
        self._memory_before = self._of_device("used_bytes")
        self.start()

    def start(self) -> None:
        """Energy is counted from here."""
        self._cpu_before = [] if isinstance(self._zones, str) else rapl.read(self._zones)
        self._device_before = self._of_device("joules")

    def device_bytes(self) -> int | None:
        """By how much the device's memory in use has grown."""
        now = self._of_device("used_bytes")
        return None if now is None or self._memory_before is None else now - self._memory_before

    def energy(self, tokens: int) -> dict[str, Any]:
        """Joules for each of `tokens`, the prompts' share included."""
        cpu = device = None
        if not isinstance(self._zones, str):
            now = rapl.read(self._zones)
            cpu = rapl.joules(self._zones, self._cpu_before, now) / tokens
        after = self._of_device("joules")
        if after is not None and self._device_before is not None:
            device = (after - self._device_before) / tokens
        return {
            "cpu_joules_per_token": cpu,
            "device_joules_per_token": device,
            "reasons": self.reasons,
        }

    def _find_device(self, library: Any) -> nvml.Device | None:
        try:
            return nvml.Device(library)
        except nvml.UnknownError as error:
            self.reasons["device"] = str(error)
            return None

    def _of_device(self, figure: str) -> Any:
        if self._device is None:
            return None
        try:
            return getattr(self._device, figure)()
        except nvml.UnknownError as error:
            self.reasons["device"] = str(error)
            return None
