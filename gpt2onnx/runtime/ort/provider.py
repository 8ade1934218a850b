"""Execution providers: all that is special about each of them, in one record.

What differs between providers is a field here, and whoever needs to know asks the record. A
provider that isn't in the table is one of which nothing special is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gpt2onnx.errors import ProviderError, shown
from gpt2onnx.runtime.ort import library
from gpt2onnx.runtime.ort.installation import (
    cuda_obstacle,
    prefer_cudnn,
    preload_cuda,
    replacement,
)
from gpt2onnx.runtime.ort.plugins import Plugin, find_plugin, is_host, plugin_providers

SUFFIX = "ExecutionProvider"
# Stands for the first provider of `PREFERRED` that runs the model.
AUTO = "auto"


def short_name(provider: str) -> str:
    """ "cuda" for "CUDAExecutionProvider", in any case."""
    return provider.lower().removesuffix(SUFFIX.lower())


def _nothing(ort: Any) -> str | None:
    return None


def _cuda_obstacle(ort: Any) -> str | None:
    preload_cuda(ort)
    obstacle = cuda_obstacle(Path(ort.__file__).parent / "capi", ort.cuda_version)
    if obstacle is None:
        prefer_cudnn()
    return obstacle


@dataclass(frozen=True)
class Provider:
    """A provider. `name` is ONNX Runtime's own, the other fields say where it is special."""

    name: str
    # What a session's binding calls the memory that it computes in.
    device_type: str = "cpu"
    # Whose graph of `export --device` it runs.
    export_device: str = "cpu"
    # What exports a graph that it runs, where it can't run this one.
    wants: str = "`export --graph portable`"
    # The package that has it, instead of onnxruntime; and the one that brings it as a plugin.
    package: str | None = None
    plugin_package: str | None = None
    # What a plugin is told, where nothing else is; and the installed one that has it, if any has.
    plugin_options: Mapping[str, str] = field(default_factory=dict)
    plugin: Plugin | None = None
    # What keeps it from running here, in words, of the module onnxruntime; None if nothing does.
    obstacle: Callable[[Any], str | None] = _nothing
    # Whether it runs every model that ONNX Runtime can: what fails there is the model's fault.
    runs_all: bool = False
    takes_options: bool = True
    default_options: Mapping[str, str] = field(default_factory=dict)
    # The options by which it rounds fp32 products, and by which it captures runs as graphs.
    tf32_option: str | None = None
    capture_option: str | None = None
    # What ONNX Runtime is not to do to a graph.
    disabled_optimizers: tuple[str, ...] = ()
    # Whether it packs matrices, which the start-up cache keeps.
    packs: bool = False
    # Whether gpt2onnx-kernels' operators run there.
    runs_kernels: bool = False

    @property
    def short(self) -> str:
        """The name as users write it: "cuda"."""
        return short_name(self.name)

    @property
    def in_host_memory(self) -> bool:
        """Whether it computes in what is bound, so that a run sees what was written there."""
        return self.device_type == "cpu" and (
            self.plugin is None or all(map(is_host, self.plugin.devices()))
        )

    @property
    def in_cuda_memory(self) -> bool:
        return self.device_type == "cuda"

    def tuning(self, tf32: bool, captures: bool) -> dict[str, str]:
        """Options that turn both on or off, as far as it has them."""
        asked = ((self.tf32_option, tf32), (self.capture_option, captures))
        return {option: str(int(on)) for option, on in asked if option}

    def require(self) -> None:
        """Raise ProviderError, with the reason and what would mend it, if it can't run here."""
        ort = library.onnxruntime()
        if self.plugin:
            self.plugin.devices()
            return
        if self.name not in ort.get_available_providers():
            here = ", ".join(map(short_name, ort.get_available_providers()))
            raise ProviderError(
                f"{self.short} can't run here: {ort.package_name} {ort.__version__} is built with "
                f"{here}{self._hint(ort.package_name)}",
                name=self.short,
            )
        if obstacle := self.obstacle(ort):
            raise ProviderError(f"{self.short} can't run here: {obstacle}", name=self.short)

    def _hint(self, installed: str) -> str:
        """What would bring it."""
        if self.plugin_package:
            return f", and no plugin with it is installed (pip install {self.plugin_package})"
        return f" ({replacement(installed, by=self.package)})" if self.package else ""

    def as_installed(self) -> Provider:
        """With the plugin that has it, where ONNX Runtime itself hasn't. Raises ProviderError.

        A plugin is given arrays in the host's memory, and copies what it wants elsewhere.
        """
        if self.plugin or self.name in available_providers():
            return self
        plugin = find_plugin(self.short)
        if plugin is None:
            return self
        return replace(
            self,
            device_type="cpu",
            plugin=plugin,
            default_options=self.plugin_options,
            capture_option=None,
        )


CPU = Provider(
    f"CPU{SUFFIX}",
    runs_all=True,
    takes_options=False,
    # With the first, prompts are 1.15 times as slow in fp32 (docs/notes/graph.md). Where packing.py
    # asks for unsigned weights, the second gives DequantizeLinear of blocks a zero point of the
    # wrong rank, at which the run then fails.
    disabled_optimizers=("SkipLayerNormFusion", "QDQS8ToU8Transformer"),
    packs=True,
    runs_kernels=True,
)
CUDA = Provider(
    f"CUDA{SUFFIX}",
    device_type="cuda",
    export_device="cuda",
    wants="`gpt2onnx export --device cuda`",
    package="onnxruntime-gpu",
    obstacle=_cuda_obstacle,
    # TF32, ONNX Runtime's own default from Ampere on, keeps ten bits of the mantissa:
    # https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html (use_tf32).
    default_options={"use_tf32": "0"},
    tf32_option="use_tf32",
    capture_option="enable_cuda_graph",
)
KNOWN = {
    provider.short: provider
    for provider in (
        CPU,
        CUDA,
        Provider(f"Tensorrt{SUFFIX}", device_type="cuda"),
        Provider(
            f"NvTensorRTRTX{SUFFIX}",
            device_type="cuda",
            plugin_package="onnxruntime-ep-nv-tensorrt-rtx",
        ),
        Provider(
            f"OpenVINO{SUFFIX}",
            plugin_package="onnxruntime-ep-openvino",
            # Where the processor has bf16, OpenVINO computes in it, and greedy texts drift.
            plugin_options={"load_config": '{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}'},
        ),
        Provider(f"Dml{SUFFIX}", device_type="dml"),
        Provider(f"CANN{SUFFIX}", device_type="cann"),
        Provider(f"WebGpu{SUFFIX}", device_type="webgpu", plugin_package="onnxruntime-ep-webgpu"),
    )
}
PREFERRED = (CUDA, CPU)


def find_provider(provider: str) -> Provider:
    """A named provider, whether or not it runs here. Raises ProviderError for an unknown one."""
    wanted = short_name(provider)
    names: list[str] = library.onnxruntime().get_all_providers()
    full = {short_name(name): name for name in (*plugin_providers(), *names)}
    if wanted not in full:
        here = ", ".join(map(short_name, providers_here()))
        unknown = f"unknown provider {shown(provider)}: this ONNX Runtime has {here}"
        raise ProviderError(unknown, name=wanted)
    return (KNOWN.get(wanted) or Provider(full[wanted])).as_installed()


def first_preferred(provider: str) -> Provider:
    """A named provider, or of "auto" the first that is there. Raises ProviderError."""
    if short_name(provider) != AUTO:
        return find_provider(provider)
    return next(each for each in PREFERRED if each.name in providers_here()).as_installed()


def available_providers() -> tuple[str, ...]:
    """The providers built into the installed ONNX Runtime, ONNX Runtime's names; not what runs."""
    return tuple(library.onnxruntime().get_available_providers())


def providers_here() -> tuple[str, ...]:
    """Those, and what plugins bring."""
    return tuple(dict.fromkeys((*available_providers(), *plugin_providers())))


def require_provider(provider: str) -> None:
    """Raise ProviderError, with the reason, if a named provider can't run here."""
    find_provider(provider).require()


def export_device(provider: str) -> str:
    """What a model that a provider runs is exported for: "cuda" or "cpu". Opens nothing."""
    return KNOWN.get(short_name(provider), CPU).export_device
