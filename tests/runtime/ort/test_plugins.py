"""Plugin providers: packages found, libraries loaded, devices chosen. Real ones: tests/runtimes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gpt2onnx.doctor import TINY_MODEL
from gpt2onnx.errors import ParameterError, ProviderError
from gpt2onnx.runtime.open_model import open_decoder
from gpt2onnx.runtime.ort import library, plugins
from gpt2onnx.runtime.ort import provider as provider_module
from gpt2onnx.runtime.ort.plugins import Plugin, find_plugin
from gpt2onnx.runtime.ort.provider import CUDA, Provider, find_provider, first_preferred
from gpt2onnx.runtime.ort.session import How, create, open_session
from gpt2onnx.runtime.ort.session_options import Setup

GOOD = """
def get_library_path(): return "/there/libeast.so"
def get_ep_names(): return ["OpenVINOExecutionProvider", "EastExecutionProvider"]
"""
CPU_DEVICES = [each for each in onnxruntime.get_ep_devices() if each.ep_name.startswith("CPU")]


def device(name: str, kind: str, vendor: str) -> Any:
    hardware = SimpleNamespace(type=SimpleNamespace(name=kind), vendor=vendor)
    return SimpleNamespace(ep_name=name, ep_metadata={"version": "1.8"}, device=hardware)


class FakeOnnxRuntime:
    """The installed one, but for plugins: `offered` are what a registered library brings."""

    def __init__(self, offered: list[Any]) -> None:
        self.offered, self.registered = offered, dict[str, str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.registered[name] = path

    def get_ep_devices(self) -> list[Any]:
        return [device("CPUExecutionProvider", "CPU", "Somebody"), *self.offered]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    caches = plugins._devices, plugins._register
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs onnxruntime-ep-east, with that code."""

    def install(code: str) -> None:
        place = tmp_path / "onnxruntime_ep_east"
        place.mkdir()
        (place / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "onnxruntime_ep_east", raising=False)

    return install


def fake(monkeypatch: pytest.MonkeyPatch, *offered: Any) -> FakeOnnxRuntime:
    runtime = FakeOnnxRuntime(list(offered))
    monkeypatch.setattr(library, "onnxruntime", lambda: runtime)
    return runtime


def test_a_package_has_its_providers(package: Callable[[str], None]) -> None:
    package(GOOD)
    expected = Plugin("onnxruntime-ep-east", "/there/libeast.so", "OpenVINOExecutionProvider")
    assert find_plugin("openvino") == expected
    assert find_provider("OpenVINO").plugin == expected
    # One of which ONNX Runtime itself has never heard.
    assert find_provider("east").name == "EastExecutionProvider"
    assert find_plugin("webgpu") is None
    assert find_provider("cpu").plugin is None


def test_a_broken_package_is_told_to_who_may_have_meant_it(package: Callable[[str], None]) -> None:
    package("raise OSError('libc is too old')")
    with pytest.raises(
        ProviderError, match=r"^onnxruntime-ep-east can't be used: libc is too old$"
    ):
        find_provider("openvino")
    assert find_provider("cpu").name == "CPUExecutionProvider"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(
        ProviderError, match=r"no plugin with it is installed \(pip install onnxruntime-ep-webgpu\)"
    ):
        open_session(TINY_MODEL, "webgpu")


def test_no_device_says_which_there_are(
    package: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    package(GOOD)
    runtime = fake(monkeypatch, device("EastExecutionProvider.AUTO", "GPU", "East"))
    message = (
        r"^onnxruntime-ep-east offers no device here; ONNX Runtime sees CPU Somebody, GPU East$"
    )
    with pytest.raises(ProviderError, match=message):
        open_session(TINY_MODEL, "east")
    assert runtime.registered == {"onnxruntime-ep-east": "/there/libeast.so"}


def test_a_library_that_cannot_be_loaded_is_no_traceback(package: Callable[[str], None]) -> None:
    package(GOOD)  # the real onnxruntime, and no such file
    with pytest.raises(ProviderError, match=r"^onnxruntime-ep-east can't be loaded: .*libeast"):
        open_session(TINY_MODEL, "east")


def test_a_device_is_named_by_its_number(
    package: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    package(GOOD)
    name = "EastExecutionProvider"
    fake(monkeypatch, device(name, "CPU", "East"), device(name, "GPU", "East"))
    plugin = find_plugin("east")
    assert plugin is not None
    assert plugin.device({}).device.type.name == "CPU"
    assert plugin.device({"device_id": "1"}).device.type.name == "GPU"
    with pytest.raises(
        ParameterError, match=r"device_id is '2', expected one of 0 \(CPU East\), 1 \(GPU East\)"
    ):
        open_session(TINY_MODEL, "east", {"device_id": 2})


def test_a_session_runs_on_a_device_that_onnx_runtime_offers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The CPU's own, which goes by the same calls as a plugin's."""
    plugin = Plugin("onnxruntime-ep-cpu", "none", "CPUExecutionProvider")
    monkeypatch.setattr(plugins, "_register", lambda name, path: None)
    provider = Provider("CPUExecutionProvider", plugin=plugin)
    session = create(TINY_MODEL, How(provider, "as asked", {}, Setup(1), None))
    vendor = CPU_DEVICES[0].device.vendor
    version = onnxruntime.__version__
    assert session.choice == (
        f"cpu (onnxruntime-ep-cpu {version} on CPU {vendor}), as asked: 1 of 1 nodes"
    )
    assert session.runs_on.in_host_memory
    (total,) = session.raw.run(None, {"x": np.ones(1, np.float32)})
    assert total == 2


def test_a_device_of_its_own_memory_keeps_no_cache_in_place(
    package: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    package(GOOD)
    fake(monkeypatch, device("EastExecutionProvider", "GPU", "East"))
    runs_on = find_provider("east")
    assert not runs_on.in_host_memory
    assert runs_on.device_type == "cpu"  # what is bound
    session: Any = SimpleNamespace(inputs={"seqlens_k": None}, runs_on=runs_on)
    folder: Any = SimpleNamespace(n_positions=64)
    with pytest.raises(ProviderError, match=r"east can't keep the cache.*--graph portable"):
        open_decoder(folder, session)


def test_cuda_as_a_plugin_is_preferred_and_captures_nothing(
    package: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    package(GOOD.replace("OpenVINO", "CUDA"))
    monkeypatch.setattr(provider_module, "available_providers", lambda: ("CPUExecutionProvider",))
    chosen = first_preferred("auto")
    assert (chosen.name, chosen.export_device) == (CUDA.name, "cuda")
    assert chosen.plugin is not None
    assert chosen.tuning(tf32=False, captures=True) == {"use_tf32": "0"}
