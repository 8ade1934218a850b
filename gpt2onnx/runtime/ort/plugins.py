"""Plugin providers: packages onnxruntime-ep-*, each with a library that ONNX Runtime loads.

Every such package names its providers and its library (`get_ep_names`, `get_library_path`):
https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries
Knows packages, libraries and the devices that they offer; knows nothing of models and sessions.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gpt2onnx.errors import Given, ParameterError, ProviderError, shown
from gpt2onnx.runtime.ort import library

MODULES = "onnxruntime_ep_"
# Which of a plugin's devices a session takes, by their order; the first unless it is given.
DEVICE = "device_id"


@dataclass(frozen=True)
class Plugin:
    """A package and one provider of it, by ONNX Runtime's name."""

    package: str
    library: str
    provider: str

    def devices(self) -> tuple[Any, ...]:
        """Its onnxruntime.OrtEpDevice. Raises ProviderError where it offers none, or can't load."""
        if found := _devices(self):
            return found
        raise ProviderError(
            f"{self.package} offers no device here; ONNX Runtime sees {_hardware() or 'none'}",
            name=self.package,
        )

    def device(self, options: Mapping[str, str]) -> Any:
        """The one that the options name. Raises ParameterError, ProviderError."""
        found, index = self.devices(), options.get(DEVICE, "0")
        if index.isdecimal() and int(index) < len(found):
            return found[int(index)]
        listed = ", ".join(f"{at} ({_described(each)})" for at, each in enumerate(found))
        raise ParameterError(
            Given("provider_options"), f": {DEVICE} is {shown(index)}, expected one of {listed}"
        )


def options_of(given: Mapping[str, str]) -> dict[str, str]:
    """A session's options as the plugin gets them: the device is named by itself."""
    return {name: value for name, value in given.items() if name != DEVICE}


def described(plugin: Plugin, device: Any) -> str:
    version = device.ep_metadata.get("version", "")
    return f"{plugin.package} {version} on {_described(device)}".replace("  ", " ")


def is_host(device: Any) -> bool:
    """Whether it computes in the host's memory."""
    kind: str = device.device.type.name
    return kind == "CPU"


def find_plugin(short: str) -> Plugin | None:
    """The installed plugin that has a provider, by its short name ("openvino").

    Raises ProviderError where there is none, and one is broken: it may have been that one.
    """
    broken = []
    for module in _modules():
        try:
            found = {each.provider.lower(): each for each in _plugins(module)}
        except (ImportError, AttributeError, OSError, RuntimeError) as error:
            broken.append(f"{_package(module)} can't be used: {error}")
            continue
        if plugin := found.get(f"{short}executionprovider"):
            return plugin
    if broken:
        raise ProviderError("; ".join(broken))
    return None


def plugin_providers() -> tuple[str, ...]:
    """The providers of all plugins that can be read, ONNX Runtime's names."""
    names = []
    for module in _modules():
        try:
            names += [each.provider for each in _plugins(module)]
        except (ImportError, AttributeError, OSError, RuntimeError):
            continue  # who asks for it by name is told
    return tuple(names)


def _modules() -> Iterator[str]:
    """The plugins' modules on sys.path, each once."""
    folders = (Path(entry or ".") for entry in sys.path)
    found = (each for folder in folders for each in sorted(folder.glob(f"{MODULES}*/__init__.py")))
    yield from dict.fromkeys(each.parent.name for each in found)


def _package(module: str) -> str:
    return module.replace("_", "-")


def _plugins(module: str) -> list[Plugin]:
    read = importlib.import_module(module)
    return [
        Plugin(_package(module), str(read.get_library_path()), name) for name in read.get_ep_names()
    ]


@cache
def _devices(plugin: Plugin) -> tuple[Any, ...]:
    """Raises ProviderError. The library stays loaded, and offers the same ones all the time."""
    ort = library.onnxruntime()
    try:
        _register(plugin.package, plugin.library)
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise ProviderError(
            f"{plugin.package} can't be loaded: {error}", name=plugin.package
        ) from error
    return tuple(each for each in ort.get_ep_devices() if each.ep_name == plugin.provider)


@cache
def _register(name: str, path: str) -> None:
    library.onnxruntime().register_execution_provider_library(name, path)


def _hardware() -> str:
    """What hardware ONNX Runtime sees, each once."""
    devices = library.onnxruntime().get_ep_devices()
    return ", ".join(dict.fromkeys(_described(each) for each in devices))


def _described(device: Any) -> str:
    hardware = device.device
    return f"{hardware.type.name} {hardware.vendor}".strip()
