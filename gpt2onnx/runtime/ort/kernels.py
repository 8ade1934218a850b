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
from gpt2onnx.runtime.ort.opset import opset_version
from gpt2onnx.runtime.ort.provider import CPU, first_preferred

PACKAGE = "gpt2onnx-kernels"
# Of its operators, and of the inputs that the decoder gives their graph.
DOMAIN, VERSION = "gpt2onnx", 7
INSTALL = "`pip install ./kernels` in the project's folder"
GRAPHS = ("auto", "onnx", "kernels")
# Names the kernels to take (docs/kernels.md), or none of them.
VARIABLE, OFF = "GPT2ONNX_KERNELS", "off"
# What runs everywhere is slower than ONNX Runtime's own operators.
SLOW = "scalar"


class Kernels(NamedTuple):
    """The library, and which of its kernels this processor gets."""

    library: Path
    name: str


class Choice(NamedTuple):
    """The kernels that a folder is opened with, or None for its graph in ONNX Runtime's operators.

    `passed_over` is why "auto" leaves a graph of theirs that the folder has.
    """

    kernels: Kernels | None = None
    passed_over: str = ""


def installed_kernels() -> Kernels:
    """The kernels of this machine.

    Raises InstallationError, with the reason there are none; ParameterError where the environment
    names some that don't run here.
    """
    if os.environ.get(VARIABLE) == OFF:
        raise InstallationError(f"{PACKAGE} is switched off by {VARIABLE}={OFF}", name=PACKAGE)
    try:
        import gpt2onnx_kernels
    except ImportError as error:
        raise InstallationError(
            f"{PACKAGE} isn't installed; {INSTALL} builds it", name=PACKAGE
        ) from error
    if gpt2onnx_kernels.OPSET < VERSION:  # later ones run earlier graphs as well
        raise InstallationError(
            f"{PACKAGE} has operators of version {gpt2onnx_kernels.OPSET}, this gpt2onnx wants "
            f"{VERSION}; {INSTALL} builds them",
            name=PACKAGE,
        )
    try:
        library, names = gpt2onnx_kernels.library(), gpt2onnx_kernels.kernels_here()
    except OSError as error:
        raise InstallationError(f"{PACKAGE} can't be used: {error}", name=PACKAGE) from error
    if names[0] == SLOW:
        raise InstallationError(f"{PACKAGE} has nothing for this processor", name=PACKAGE)
    if (name := os.environ.get(VARIABLE) or names[0]) not in names:
        expected = f": expected {', '.join(names)}, which run here, or {OFF}"
        raise ParameterError(Given(VARIABLE, name), expected)
    return Kernels(library, name)


def chosen_kernels(folder: ModelFolder, graph: str, provider: str) -> Choice:
    """What a folder is opened with.

    "auto" takes the kernels on the CPU, where the folder has their graph, they can run, and both
    are of one version.

    Raises ParameterError, as installed_kernels does, too; ModelFolderError or InstallationError
    where they were asked for and something is missing; CorruptModelError for a graph of theirs that
    is damaged, "auto" or not.
    """
    one_of("graph", graph, GRAPHS)
    there, runs = (folder.path / KERNELS_GRAPH).is_file(), first_preferred(provider).runs_kernels
    if graph == "onnx" or (graph == "auto" and not (there and runs)):
        return Choice()
    if not runs:
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
    try:
        kernels = installed_kernels()
    except InstallationError as error:
        if graph == "kernels":
            raise
        return Choice(passed_over=str(error))
    if not (obstacle := _other_version(folder.path / KERNELS_GRAPH)):
        return Choice(kernels)
    if graph == "kernels":
        raise ModelFolderError(
            *(f"{obstacle}, or use ", Advised("graph", "onnx")),
            path=folder.path,
            name=KERNELS_GRAPH,
        )
    return Choice(passed_over=obstacle)


def _other_version(graph: Path) -> str:
    """What is wrong with the version of a kernels' graph; nothing where it is this one."""
    version = opset_version(graph, DOMAIN)
    if version == VERSION:
        return ""
    later = ", or install the gpt2onnx that wrote it" if version and version > VERSION else ""
    return (
        f"{graph} is of version {version}, this gpt2onnx runs {VERSION}: export the model again"
        f"{later}"
    )


def usable_kernels() -> Kernels | None:
    """The kernels of this machine, if it has any. Raises ParameterError as installed_kernels."""
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
