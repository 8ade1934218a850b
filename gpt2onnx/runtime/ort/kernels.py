"""gpt2onnx-kernels, the optional operator library: whether it is there, and when it is used.

Knows the package's names, folders and providers; opens no session. Without the package every model
runs as it does with graph="onnx".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from gpt2onnx.errors import (
    Advised,
    Given,
    InstallationError,
    ModelFolderError,
    ParameterError,
    shown,
)
from gpt2onnx.flags import one_of
from gpt2onnx.runtime.folder.model_folder import KERNELS_GRAPH, ModelFolder
from gpt2onnx.runtime.ort.provider import CPU, first_preferred

PACKAGE = "gpt2onnx-kernels"
DOMAIN = "gpt2onnx"  # of its operators
GRAPHS = ("auto", "onnx", "kernels")
# Names the kernels to take (docs/kernels.md), or none of them.
VARIABLE, OFF = "GPT2ONNX_KERNELS", "off"
# What runs everywhere is slower than ONNX Runtime's own operators.
SLOW = "scalar"


class Kernels(NamedTuple):
    """The library, and which of its kernels this processor gets."""

    library: Path
    name: str


def installed_kernels() -> Kernels:
    """The kernels of this machine. Raises InstallationError, with the reason there are none."""
    if os.environ.get(VARIABLE) == OFF:
        raise InstallationError(f"{PACKAGE} is switched off by {VARIABLE}={OFF}", name=PACKAGE)
    try:
        import gpt2onnx_kernels
    except ImportError as error:
        raise InstallationError(
            f"{PACKAGE} isn't installed; `pip install ./kernels` in the project's folder builds it",
            name=PACKAGE,
        ) from error
    try:
        library, names = gpt2onnx_kernels.library(), gpt2onnx_kernels.kernels_here()
    except OSError as error:
        raise InstallationError(f"{PACKAGE} can't be used: {error}", name=PACKAGE) from error
    if names[0] == SLOW:
        raise InstallationError(f"{PACKAGE} has nothing for this processor", name=PACKAGE)
    return Kernels(library, os.environ.get(VARIABLE) or names[0])


def chosen_kernels(folder: ModelFolder, graph: str, provider: str) -> Kernels | None:
    """The kernels that a folder is opened with, or None for its graph in ONNX Runtime's operators.

    "auto" takes them on the CPU, where the folder has their graph and they can run.

    Raises ParameterError; ModelFolderError or InstallationError where they were asked for and
    something is missing.
    """
    one_of("graph", graph, GRAPHS)
    if graph == "onnx":
        return None
    there = (folder.path / KERNELS_GRAPH).is_file()
    if graph == "auto":
        return usable_kernels() if there and first_preferred(provider).runs_kernels else None
    if not first_preferred(provider).runs_kernels:
        raise ParameterError(
            Given("graph", "kernels"),
            " runs on the CPU: use ",
            Advised("provider", CPU.short),
            f", not {shown(provider)}",
        )
    if not there:
        raise ModelFolderError(
            f"{folder.path}: has no {KERNELS_GRAPH}; export the model again in fp32, int8 or int4 "
            "for the CPU, or use ",
            Advised("graph", "onnx"),
            path=folder.path,
            name=KERNELS_GRAPH,
        )
    return installed_kernels()


def usable_kernels() -> Kernels | None:
    """The kernels of this machine, if it has any."""
    try:
        return installed_kernels()
    except InstallationError:  # optional: doctor tells what is missing
        return None


def most_operations(rounded: bool) -> float | None:
    """Operations a second that a thread can do at most, of rounded numbers or of floats.

    None where the package isn't there to measure it, or is older than that.
    """
    if usable_kernels() is None:
        return None
    import gpt2onnx_kernels

    measure = getattr(gpt2onnx_kernels, "operations", None)
    return None if measure is None else float(measure(rounded=rounded))
