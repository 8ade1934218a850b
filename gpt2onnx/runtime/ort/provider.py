"""Execution providers: all that is special about each of them, in one record.

What differs between providers is a field here, and whoever needs to know asks the record. A
provider that isn't in the table is one of which nothing special is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2onnx.errors import ProviderError, shown
from gpt2onnx.runtime.ort import library
from gpt2onnx.runtime.ort.installation import cuda_obstacle, preload_cuda, replacement

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
    return cuda_obstacle(Path(ort.__file__).parent / "capi", ort.cuda_version)


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
    # The package that has it.
    package: str | None = None
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
        return self.device_type == "cpu"

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
        if self.name not in ort.get_available_providers():
            here = ", ".join(map(short_name, ort.get_available_providers()))
            hint = f" ({replacement(ort.package_name, by=self.package)})" if self.package else ""
            raise ProviderError(
                f"{self.short} can't run here: {ort.package_name} {ort.__version__} is built with "
                f"{here}{hint}"
            )
        if obstacle := self.obstacle(ort):
            raise ProviderError(f"{self.short} can't run here: {obstacle}")


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
        Provider(f"NvTensorRTRTX{SUFFIX}", device_type="cuda"),
        Provider(f"Dml{SUFFIX}", device_type="dml"),
        Provider(f"CANN{SUFFIX}", device_type="cann"),
        Provider(f"WebGpu{SUFFIX}", device_type="webgpu"),
    )
}
PREFERRED = (CUDA, CPU)


def find_provider(provider: str) -> Provider:
    """A named provider, whether or not it runs here. Raises ProviderError for an unknown one."""
    wanted = short_name(provider)
    names: list[str] = library.onnxruntime().get_all_providers()
    full = {short_name(name): name for name in names}
    if wanted not in full:
        here = ", ".join(map(short_name, available_providers()))
        raise ProviderError(f"unknown provider {shown(provider)}: this ONNX Runtime has {here}")
    return KNOWN.get(wanted) or Provider(full[wanted])


def first_preferred(provider: str) -> Provider:
    """A named provider, or of "auto" the first that is built in. Raises ProviderError."""
    if short_name(provider) != AUTO:
        return find_provider(provider)
    return next(each for each in PREFERRED if each.name in available_providers())


def available_providers() -> tuple[str, ...]:
    """The providers built into the installed ONNX Runtime, ONNX Runtime's names; not what runs."""
    return tuple(library.onnxruntime().get_available_providers())


def require_provider(provider: str) -> None:
    """Raise ProviderError, with the reason, if a named provider can't run here."""
    find_provider(provider).require()


def export_device(provider: str) -> str:
    """What a model that a provider runs is exported for: "cuda" or "cpu". Opens nothing."""
    return KNOWN.get(short_name(provider), CPU).export_device
