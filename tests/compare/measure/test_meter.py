"""Energy and device memory, of a made-up machine."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from gpt2onnx.compare.measure import nvml, rapl
from gpt2onnx.compare.measure.memory import Held, held
from gpt2onnx.compare.measure.meter import Meter
from gpt2onnx.compare.report.findings import findings
from tests.compare.records import a_record, a_run


def zone(root: Path, name: str, energy: int, what: str = "package-0") -> Path:
    folder = root / "sys/class/powercap" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{what}\n")
    (folder / "max_energy_range_uj").write_text("1000000\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    return folder / "energy_uj"


class Library:
    """NVML with a few devices: what each call is given is filled in as NVML would."""

    def __init__(self, count: int = 1, failing: str = "") -> None:
        self.count, self.failing = count, failing
        self.used, self.millijoules, self.asked = 1000, 5000, b""

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: 3 if name == self.failing else self._call(name, *arguments)

    def _call(self, name: str, *arguments: object) -> int:
        if name == "nvmlDeviceGetCount_v2":
            arguments[0]._obj.value = self.count
        elif name == "nvmlDeviceGetHandleByUUID":
            self.asked = arguments[0]
        elif name == "nvmlDeviceGetMemoryInfo":
            arguments[1]._obj.used = self.used
        elif name == "nvmlDeviceGetTotalEnergyConsumption":
            arguments[1]._obj.value = self.millijoules
        elif name == "nvmlDeviceGetName":
            ctypes.memmove(arguments[1], b"A GPU\0", 6)
        return 0


def test_packages_are_summed_and_a_counter_starts_again(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", 900_000)
    second = zone(tmp_path, "intel-rapl:1", 100, "package-1-die-0")
    zone(tmp_path, "intel-rapl:0:0", 5, "core")  # a part of the first, counted there
    whole = zone(tmp_path, "intel-rapl:2", 7, "psys")  # which both are parts of
    meter = Meter(uses_device=False, root=tmp_path)
    first.write_text("100000")  # 200,000 since, over its end
    second.write_text("300100")
    whole.write_text("900007")
    energy = meter.energy(tokens=10)
    assert energy.cpu_joules_per_token == pytest.approx(0.05)
    assert energy.device_joules_per_token is None
    assert energy.reasons == {}


def test_no_counters_no_figure(tmp_path: Path) -> None:
    meter = Meter(uses_device=False, root=tmp_path)
    assert meter.energy(10).cpu_joules_per_token is None
    assert meter.reasons == {"cpu": "the kernel gives no RAPL counters here"}


def test_counters_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = zone(tmp_path, "intel-rapl:0", 1)
    read = Path.read_text

    def refused(path: Path, *arguments: object) -> str:
        if path == file:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_text", refused)
    assert rapl.zones(tmp_path) == f"{file}: Permission denied"


def test_a_device(tmp_path: Path) -> None:
    library = Library()
    meter = Meter(uses_device=True, root=tmp_path, library=library)
    library.used, library.millijoules = 4000, 25_000
    assert meter.device_bytes() == 3000
    assert meter.energy(10).device_joules_per_token == pytest.approx(2)
    assert nvml.Device(library).name() == "A GPU"


def test_a_device_that_does_not_tell_its_energy(tmp_path: Path) -> None:
    library = Library(failing="nvmlDeviceGetTotalEnergyConsumption")
    meter = Meter(uses_device=True, root=tmp_path, library=library)
    assert meter.device_bytes() == 0
    assert not meter.counts_device
    energy = meter.energy(10)
    assert energy.device_joules_per_token is None
    assert energy.reasons.pop("cpu")
    why = "nvmlDeviceGetTotalEnergyConsumption gave NVML's error 3"
    assert energy.reasons == {"device": why}


def test_a_device_that_does_not_tell_its_memory(tmp_path: Path) -> None:
    """No reason stands beside a figure of energy, and none is of another's failure."""
    zone(tmp_path, "intel-rapl:0", 1)
    library = Library(failing="nvmlDeviceGetMemoryInfo")
    meter = Meter(uses_device=True, root=tmp_path, library=library)
    library.millijoules = 25_000
    assert meter.device_bytes() is None
    energy = meter.energy(10)
    assert energy.device_joules_per_token == pytest.approx(2)
    why = "nvmlDeviceGetMemoryInfo gave NVML's error 3"
    assert energy.reasons == {"device_bytes": why}
    record = a_record([a_run("cuda", "fp16", 1, 1.0, energy=energy)])
    assert [line for line in findings(record) if line.startswith("No ")] == [
        f"No memory of the GPU: {why}."
    ]


def test_a_failure_before_energy_is_counted_leaves_no_reason(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 1)
    library = Library(failing="nvmlDeviceGetTotalEnergyConsumption")
    meter = Meter(uses_device=True, root=tmp_path, library=library)
    library.failing = ""
    meter.start()
    library.millijoules = 25_000
    energy = meter.energy(10)
    assert (energy.device_joules_per_token, energy.reasons) == (2, {})


def test_a_counter_that_did_not_move_is_no_figure(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 1)
    meter = Meter(uses_device=True, root=tmp_path, library=Library())
    assert meter.counts_device
    energy = meter.energy(10)
    assert energy.device_joules_per_token is None
    assert energy.reasons == {"device": "its counter of energy didn't move"}


def test_of_several_devices_one_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    meter = Meter(uses_device=True, root=tmp_path, library=Library(count=2))
    assert meter.device_bytes() is None
    for figure in ("device", "device_bytes"):
        assert "name one by CUDA_VISIBLE_DEVICES=GPU-" in meter.reasons[figure]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-abc")
    library = Library(count=2)
    nvml.Device(library)
    assert library.asked == b"GPU-abc"


def test_memory(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmRSS:\t    20 kB\nRssAnon:\t    8 kB\n")
    assert held(status) == Held(resident_bytes=20480, anonymous_bytes=8192)
    assert held(tmp_path / "none") == Held(None, None)
