"""Measures the energy and the device memory that a piece of work takes.

A figure that the machine doesn't tell is None, and `reasons` says why, by figure.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt2onnx.compare.measure import nvml, rapl
from gpt2onnx.compare.record.runs import Energy, Figure

# By their names in `reasons`: what the device is asked for its energy, and for its memory in use.
ASKED: dict[Figure, Callable[[nvml.Device], float]] = {
    "device": nvml.Device.joules,
    "device_bytes": nvml.Device.used_bytes,
}


class Meter:
    """Begins when made. The device is asked only where the work uses it.

    Counters are the whole package's and the whole device's: other work on them counts as well.
    """

    def __init__(self, uses_device: bool, root: Path = rapl.ROOT, library: Any = None) -> None:
        self.reasons: dict[Figure, str] = {}
        self._zones = rapl.zones(root)
        if isinstance(self._zones, str):
            self.reasons["cpu"] = self._zones
        self._device = self._find_device(library) if uses_device else None
        self._bytes_before = self._of_device("device_bytes")
        self.start()

    def start(self) -> None:
        """Energy is counted from here."""
        self._cpu_before = [] if isinstance(self._zones, str) else rapl.read(self._zones)
        self._joules_before = self._of_device("device")

    @property
    def counts_device(self) -> bool:
        """Whether the device tells its energy."""
        return self._joules_before is not None

    def device_bytes(self) -> int | None:
        """By how much the device's memory in use has grown."""
        grown: int | None = self._growth("device_bytes", self._bytes_before)
        return grown

    def energy(self, tokens: int) -> Energy:
        """Joules for each of `tokens`, the prompts' share included."""
        cpu = None
        if not isinstance(self._zones, str):
            now = rapl.read(self._zones)
            cpu = rapl.joules(self._zones, self._cpu_before, now) / tokens
        device = self._growth("device", self._joules_before)
        if device == 0:  # the counter is written several times a second at most
            device, self.reasons["device"] = None, "its counter of energy didn't move"
        return Energy(
            cpu_joules_per_token=cpu,
            device_joules_per_token=None if device is None else device / tokens,
            reasons=self.reasons,
        )

    def _find_device(self, library: Any) -> nvml.Device | None:
        try:
            return nvml.Device(library)
        except nvml.UnknownError as error:
            self.reasons |= dict.fromkeys(ASKED, str(error))
            return None

    def _growth(self, figure: Figure, before: Any) -> Any:
        """None where it wasn't told before, or isn't now; only then a reason stands."""
        now = self._of_device(figure)
        if before is None or now is None:
            return None
        self.reasons.pop(figure, None)
        return now - before

    def _of_device(self, figure: Figure) -> Any:
        if self._device is None:
            return None
        try:
            return ASKED[figure](self._device)
        except nvml.UnknownError as error:
            self.reasons[figure] = str(error)
            return None
