"""Where a runtime is installed: an environment of its own, or this Python and this folder.

Under a folder of environments, `openvino/` is a virtual environment, named as the runtime is, and
`node/` has node_modules. Without one the running Python's packages count, and node_modules here.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gpt2onnx.compare.runtimes.job import UnavailableError
from gpt2onnx.compare.runtimes.table import Runtime

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BIN = "Scripts" if sys.platform == "win32" else "bin"


class Places(Protocol):
    """Each method raises UnavailableError."""

    def python(self, runtime: Runtime) -> Path:
        """The interpreter that imports a runtime."""

    def modules(self, runtime: Runtime) -> Path:
        """The folder node_modules that has a runtime."""


@dataclass(frozen=True)
class Installed:
    """What is installed, with environments under a folder or without."""

    environments: Path | None = None

    def python(self, runtime: Runtime) -> Path:
        own = self.environments and self.environments / runtime.name
        if own and (python := own / BIN / "python").exists():
            return python
        if importlib.util.find_spec(runtime.module) is None:
            pip = f"python -m venv {own} && {own / BIN / 'pip'}" if own else "pip"
            packages = " ".join(runtime.packages)
            said = f"{runtime.name} isn't installed: {pip} install {packages}"
            raise UnavailableError(said, name=runtime.name)
        return Path(sys.executable)

    def modules(self, runtime: Runtime) -> Path:
        beside = self.environments / "node" if self.environments else Path()
        found = (beside / "node_modules").resolve()
        if not (found / runtime.module).is_dir():
            packages = " ".join(runtime.packages)
            raise UnavailableError(
                f"{runtime.name} isn't installed: npm install --prefix {beside} {packages}",
                name=runtime.name,
            )
        return found


def node() -> str:
    return _program("Node.js", "node")


def browser() -> str:
    return _program("Chromium", *BROWSERS)


def _program(name: str, *commands: str) -> str:
    found = next(filter(None, map(shutil.which, commands)), None)
    if found is None:
        raise UnavailableError(f"{name} isn't installed: no {' or '.join(commands)} in PATH")
    return found
