"""Where a row's runtime is installed: made when first asked for, and kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import Environment, InstallError, run
from benchmarks.runtimes.rows import NODE, WEB
from gpt2onnx.compare.runtimes.job import UnavailableError
from gpt2onnx.compare.runtimes.places import Installed
from gpt2onnx.compare.runtimes.table import Runtime


@dataclass(frozen=True)
class Chosen:
    """An environment made under `folder`, or what Installed finds."""

    folder: Path
    environment: Environment | None

    def python(self, runtime: Runtime) -> Path:
        if self.environment is None:
            return Installed().python(runtime)
        try:
            self.environment.make(self.folder)
        except InstallError as error:
            raise UnavailableError(f"can't be installed: {error}") from error
        return self.environment.python(self.folder)

    def modules(self, runtime: Runtime) -> Path:
        try:
            make_node_modules(self.folder)
        except InstallError as error:
            raise UnavailableError(f"can't be installed: {error}") from error
        return Installed(self.folder).modules(runtime)


def make_node_modules(folder: Path, seconds: float | None = None) -> None:
    """`folder`/node/node_modules with NODE and WEB in it. Raises InstallError, with npm's words."""
    place = folder / "node"
    if (place / "made").is_file():
        return
    place.mkdir(parents=True, exist_ok=True)
    # The installed scripts would fetch CUDA's libraries.
    npm = ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *NODE, WEB)
    run(npm, seconds, cwd=place)
    (place / "made").touch()
