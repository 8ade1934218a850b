"""What gpt2onnx finds on this machine: versions, providers that really run, processor, folders.

Every question is answered by trying it. Knows nothing of models of the user's, and prints nothing:
`report().as_dict()` is for programs, `str(report())` for people.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

import gpt2onnx
from gpt2onnx.errors import Gpt2OnnxError, InstallationError, ParameterError, StorageError
from gpt2onnx.paths import cache_folder
from gpt2onnx.runtime.machine import threads
from gpt2onnx.runtime.machine.processor import Processor, processor
from gpt2onnx.runtime.ort import installation as providers
from gpt2onnx.runtime.ort.kernels import PACKAGE, installed_kernels
from gpt2onnx.runtime.ort.library import quiet
from gpt2onnx.runtime.ort.provider import CUDA, providers_here, short_name
from gpt2onnx.runtime.ort.session import open_session

# What pyproject.toml lists under each extra, less the extras that it includes.
EXTRAS = {
    "export": ("onnx", "huggingface-hub", "tqdm"),
    "verify": ("torch", "transformers"),
    "optimum": ("optimum-onnx", "transformers"),
    "structured": ("llguidance",),
}

# The smallest model that computes: y = x + x, float32 [1]. Made by onnx.helper as
# make_model(make_graph([make_node("Add", ["x", "x"], ["y"])], "doctor", [x], [y]),
# opset_imports=[make_opsetid("", 17)], ir_version=8).SerializeToString()
TINY_MODEL = base64.b64decode(
    "CAg6OgoOCgF4CgF4EgF5IgNBZGQSBmRvY3RvcloPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEBE="
)


@dataclass(frozen=True)
class Provider:
    """An execution provider that is built in: whether it runs a model here, or why not."""

    name: str
    runs: bool
    detail: str


@dataclass(frozen=True)
class Threads:
    """Logical processors allowed, the CPU limit, physical cores, and what is used by default."""

    affinity: int
    cpu_limit: float | None
    physical_cores: int
    default: int


@dataclass(frozen=True)
class CacheFolder:
    """Where gpt2onnx keeps what it can make again; `writable` if it is, or could be made."""

    path: str
    exists: bool
    writable: bool


@dataclass(frozen=True)
class Extra:
    """Optional packages by their versions, None for one that is missing, and the command for it."""

    name: str
    packages: Mapping[str, str | None]
    command: str


@dataclass(frozen=True)
class Report:
    """The findings; `onnxruntime` lists the installed packages, `advice` what to do about them."""

    versions: Mapping[str, str]
    onnxruntime: tuple[str, ...]
    providers: tuple[Provider, ...]
    processor: Processor
    threads: Threads
    kernels: str
    cache: CacheFolder
    extras: tuple[Extra, ...]
    advice: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same in dicts, lists, strings and numbers, as JSON has them."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def report() -> Report:
    """Look at this machine. Opens a session on each provider, so it may take seconds with a GPU."""
    found, complaint = _providers()
    cache = _cache()
    return Report(
        versions=_versions(),
        onnxruntime=tuple(f"{p} in {p.folder}" for p in providers.installed_packages()),
        providers=found,
        processor=processor(),
        threads=_threads(),
        kernels=_kernels(),
        cache=cache,
        extras=tuple(_extra(name, packages) for name, packages in EXTRAS.items()),
        advice=tuple(_advice(found, complaint, cache)),
    )


def _versions() -> dict[str, str]:
    return {
        "gpt2onnx": gpt2onnx.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "tokenizers": metadata.version("tokenizers"),
    }


def _providers() -> tuple[tuple[Provider, ...], str | None]:
    """Every provider tried, and what is wrong with ONNX Runtime itself, if it is."""
    try:
        names = providers_here()
    except InstallationError as error:
        return (), str(error)
    return tuple(_try(name) for name in names), None


def _try(name: str) -> Provider:
    short = short_name(name)
    try:
        with quiet():  # a library that is missing is logged as well as raised
            session = open_session(TINY_MODEL, name)
            (total,) = session.raw.run(None, {"x": np.ones(1, np.float32)})
    except Gpt2OnnxError as error:
        return Provider(short, False, str(error))
    except Exception as error:  # opened, but its first kernel fails: ONNX Runtime has no base class
        return Provider(short, False, " ".join(f"opens, but doesn't run: {error}".split()))
    return Provider(short, total.item() == 2, f"1 + 1 = {total.item():g}")


def _threads() -> Threads:
    return Threads(
        len(threads.affinity()),
        threads.cpu_limit(),
        threads.physical_cores(),
        threads.default_threads(),
    )


def _kernels() -> str:
    """Which of gpt2onnx-kernels run here, or why none do."""
    try:
        return f"{installed_kernels().name}: {PACKAGE} {metadata.version(PACKAGE)}"
    except (InstallationError, ParameterError, metadata.PackageNotFoundError) as error:
        return f"none: {error}"


def _cache() -> CacheFolder:
    try:
        path = cache_folder()
    except StorageError:  # it is in a home folder, and there is none
        place = os.environ.get("GPT2ONNX_CACHE") or "~/.cache/gpt2onnx"
        return CacheFolder(place, False, False)
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return CacheFolder(str(path), path.is_dir(), writable)


def _extra(name: str, packages: tuple[str, ...]) -> Extra:
    versions = {package: _installed_version(package) for package in packages}
    return Extra(name, versions, f"pip install 'gpt2onnx[{name}]'")


def _installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _advice(found: tuple[Provider, ...], complaint: str | None, cache: CacheFolder) -> list[str]:
    advice = [complaint] if complaint else []
    without_cuda = found and CUDA.short not in [provider.name for provider in found]
    if without_cuda and providers.driver_obstacle() is None:
        names = [package.name for package in providers.installed_packages()]
        advice.append(
            f"there is an NVIDIA device that this ONNX Runtime isn't built for; to use it: "
            f"{providers.replacement(*names)}"
        )
    if not cache.writable:
        advice.append(f"{cache.path} can't be written: set GPT2ONNX_CACHE to a folder that can")
    return advice


def _lines(report: Report) -> list[str]:
    cpu, threads = report.processor, report.threads
    limit = "no limit" if threads.cpu_limit is None else f"limit {threads.cpu_limit:g}"
    has = [feature for feature, present in cpu.features.items() if present]
    lacks = [feature for feature, present in cpu.features.items() if not present]
    rows = [
        *report.versions.items(),
        *(("onnxruntime", package) for package in report.onnxruntime or ("none",)),
        *((p.name, f"{'runs' if p.runs else 'no'}: {p.detail}") for p in report.providers),
        ("processor", f"{cpu.model}, {cpu.architecture}"),
        ("has", " ".join(has) or "-"),
        ("lacks", " ".join(lacks) or "-"),
        (
            "threads",
            f"{threads.default}: {threads.physical_cores} cores, {threads.affinity} processors "
            f"allowed, {limit}",
        ),
        ("kernels", report.kernels),
        ("cache", f"{report.cache.path}, {'' if report.cache.writable else 'not '}writable"),
        *((extra.name, _extra_text(extra)) for extra in report.extras),
        *(("to do", advice) for advice in report.advice),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {text}" for name, text in rows]


def _extra_text(extra: Extra) -> str:
    missing = [name for name, version in extra.packages.items() if version is None]
    if missing:
        return f"lacks {', '.join(missing)}: {extra.command}"
    return ", ".join(f"{name} {version}" for name, version in extra.packages.items())
