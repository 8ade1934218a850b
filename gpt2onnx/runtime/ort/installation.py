"""Which ONNX Runtime is installed, and why CUDA can't run here.

It reads folders and asks the system's libraries; it never imports onnxruntime, so that it can speak
when that import fails. It knows nothing of models and sessions.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2onnx.errors import InstallationError

# Packages that all install the one module `onnxruntime`, over each other.
FLAVOURS = frozenset(
    {
        "onnxruntime",
        "onnxruntime-cann",
        "onnxruntime-directml",
        "onnxruntime-gpu",
        "onnxruntime-migraphx",
        "onnxruntime-openvino",
        "onnxruntime-qnn",
        "onnxruntime-rocm",
        "onnxruntime-silicon",
        "onnxruntime-training",
        "onnxruntime-vitisai",
        "onnxruntime-webgpu",
        "onnxruntime-windowsml",
        "ort-gpu-nightly",
        "ort-nightly",
    }
)
# The other flavours come out later; what one lacks, opening a model tells by name.
OLDEST = {"onnxruntime": (1, 31), "onnxruntime-gpu": (1, 31)}
XQA = "ORT_ENABLE_XQA"
COMPUTE_CAPABILITY_MAJOR, HOPPER = 75, 9  # of cuDeviceGetAttribute
INSTALL = "pip install 'gpt2onnx[cpu]' or 'gpt2onnx[gpu]'"


@dataclass(frozen=True)
class Package:
    """A package that installs the module `onnxruntime`."""

    name: str
    version: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def installed_packages(path: Sequence[str] | None = None) -> tuple[Package, ...]:
    """The packages on `path` (default: sys.path) that install `onnxruntime`, in its order.

    Reads the same folder names as importlib.metadata, in 0.2 ms: that module alone takes 25 ms to
    import, of a start-up of a few hundred.
    """
    found: dict[tuple[str, Path], Package] = {}
    for folder in map(Path, sys.path if path is None else path):
        for name, version in sorted(_distributions(folder)):
            if name in FLAVOURS:
                found[name, folder.resolve()] = Package(name, version, folder.resolve())
    return tuple(found.values())


def _distributions(folder: Path) -> Iterator[tuple[str, str]]:
    """Names, as PEP 503 spells them, and versions of what is installed in a folder."""
    for kind in ("dist-info", "egg-info"):
        for entry in folder.glob(f"o*.{kind}"):
            name, _, version = entry.name.removesuffix(f".{kind}").partition("-")
            yield re.sub(r"[-_.]+", "-", name).lower(), version.partition("-py")[0]


def conflict(packages: Sequence[Package]) -> str | None:
    """What is wrong with having these packages at once, and the command that mends it; else None.

    Only packages in one folder overwrite each other. Of several folders the first is used alone.
    """
    together = [package for package in packages if package.folder == packages[0].folder]
    if len(together) < 2:
        return None
    names = [package.name for package in together]
    wanted = next((name for name in names if name != "onnxruntime"), "onnxruntime")
    return (
        f"{' and '.join(map(str, together))} overwrite each other's files, keep one: "
        f"{replacement(*names, by=wanted)}"
    )


def replacement(*names: str, by: str = "onnxruntime-gpu") -> str:
    """The command that leaves one package of the module, and its libraries, instead of `names`."""
    wanted = "'gpt2onnx[gpu]'" if by == "onnxruntime-gpu" else by
    return f"pip uninstall -y {' '.join(names)} && pip install {wanted}"


def require_onnxruntime() -> Package | None:
    """The package that `import onnxruntime` will use; None for a build that no package lists.

    Raises InstallationError where it is missing, half removed, too old, or where two overwrite
    each other, with the command that mends it.
    """
    packages = installed_packages()
    if not packages and not _importable():
        raise InstallationError(f"ONNX Runtime is not installed: {INSTALL}", name="onnxruntime")
    if message := conflict(packages):
        raise InstallationError(message)
    if not packages:
        return None
    package = packages[0]
    if not _importable():
        raise InstallationError(
            f"{package} is listed as installed but its files are gone, as after uninstalling "
            f"another package of this module: pip install --force-reinstall {package.name}",
            name=package.name,
        )
    if package.name in OLDEST and _release(package.version) < OLDEST[package.name]:
        wanted = ".".join(map(str, OLDEST[package.name]))
        raise InstallationError(
            f"{package} is too old, at least {wanted} is wanted: pip install -U {package.name}",
            name=package.name,
        )
    return package


def _importable() -> bool:
    # A folder without __init__.py, left behind by pip uninstall, has a spec but no origin.
    spec = importlib.util.find_spec("onnxruntime")
    return spec is not None and spec.origin is not None


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def preload_cuda(ort: Any) -> None:
    """Have onnxruntime load CUDA's libraries from pip's packages, wherever on sys.path they lie.

    ONNX Runtime alone looks beside its own package only, and then where the system looks.
    """
    nvidia = importlib.util.find_spec("nvidia")
    roots = (nvidia and nvidia.submodule_search_locations) or ()
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it doesn't find
        for folder in (folder for root in roots for folder in sorted(Path(root).glob("*/lib"))):
            ort.preload_dlls(directory=str(folder))
        ort.preload_dlls()


def prefer_cudnn(load: Callable[..., Any] = ctypes.CDLL) -> None:
    """Have cuDNN attend for one new token, too, where it is there and the device a Hopper.

    ONNX Runtime prefers kernels of its own (XQA), which take four launches a layer in place of
    fewer, and longer for many rows (docs/notes/cuda.md has the times). It can be told otherwise by
    the environment alone, which is read when a model is opened; what is set there is left.
    """
    major = ctypes.c_int()
    try:
        load("libcudnn.so.9")
        load("libcuda.so.1").cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_CAPABILITY_MAJOR, 0)
    except OSError:
        return
    if major.value == HOPPER:
        os.environ.setdefault(XQA, "0")


def cuda_obstacle(capi: Path, built_for: str, load: Callable[..., Any] = ctypes.CDLL) -> str | None:
    """What keeps the CUDA provider from running here, in words; None if nothing is in its way.

    Asked before a session is opened, because ONNX Runtime names the reason only in its log and then
    runs on the CPU. `capi` is the folder of its libraries, `built_for` its CUDA version ("13.0"),
    `load` opens a shared library. Driver and device come first: without them the libraries, a
    gigabyte to install, are of no use.
    """
    if sys.platform != "linux":  # elsewhere only opening a session tells
        return None
    return driver_obstacle(built_for, load) or _library_obstacle(capi, load)


def driver_obstacle(built_for: str = "", load: Callable[..., Any] = ctypes.CDLL) -> str | None:
    """Why there is no device, or no driver new enough; None where CUDA `built_for` could run.

    Asks the CUDA driver API: https://docs.nvidia.com/cuda/cuda-driver-api/ (cuInit and on).
    """
    try:
        driver = load("libcuda.so.1")
    except OSError as error:
        return f"there is no NVIDIA driver ({error})"
    if status := driver.cuInit(0):
        text = ctypes.c_char_p()
        driver.cuGetErrorString(status, ctypes.byref(text))
        return f"the NVIDIA driver offers no device: {(text.value or b'error').decode()} ({status})"
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = version.value // 1000, version.value % 1000 // 10
    wanted = int(built_for.partition(".")[0] or 0)
    if major < wanted:
        return (
            f"the NVIDIA driver runs CUDA up to {major}.{minor} and this ONNX Runtime is built for "
            f"{built_for}: install a newer driver"
        )
    return None


def _library_obstacle(capi: Path, load: Callable[..., Any]) -> str | None:
    try:
        # The second takes symbols from the first.
        load(str(capi / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        load(str(capi / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return (
            f"a library is missing ({error}): pip install 'gpt2onnx[gpu]' brings CUDA's and cuDNN"
        )
    return None
