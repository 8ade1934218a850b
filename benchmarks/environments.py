"""Virtual environments, one an engine, made once and kept. Knows pip, and no engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

LOG_LINES = 3


class InstallError(Exception):
    """An environment can't be made; the message is pip's own."""


@dataclass(frozen=True)
class Environment:
    """What to install. `beside` are folders that run from where they are and count as installed."""

    name: str
    requirements: tuple[str, ...]
    # For builds from source.
    variables: Mapping[str, str] = field(default_factory=dict)
    # To be removed again: what is required by name only, and breaks the rest.
    without: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()

    def python(self, folder: Path) -> Path:
        return folder / self.name / "bin" / "python"

    def make(self, folder: Path) -> None:
        """Make it under `folder`, unless it is there as described. Raises InstallError."""
        if self._record(folder) == self._description():
            return
        place = folder / self.name
        shutil.rmtree(place, ignore_errors=True)
        print(f"bench: making the environment {place}", file=sys.stderr)
        _run([sys.executable, "-m", "venv", str(place)])
        bare = folder_size(place)
        variables = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", **self.variables}
        if self.variables:  # what pip has built before, and keeps, it built otherwise
            variables["PIP_CACHE_DIR"] = str((folder / "builds").resolve())
        _run(self._pip(folder, "install", *self.requirements), variables)
        if self.without:
            _run(self._pip(folder, "uninstall", "--yes", *self.without), variables)
        made = self._description() | {"bytes": folder_size(place) - bare}
        (place / "made.json").write_text(json.dumps(made))

    def installed_mb(self, folder: Path) -> float:
        """Size of what was installed, compiled Python files apart."""
        made = json.loads((folder / self.name / "made.json").read_text())
        return float((made["bytes"] + sum(map(folder_size, self.beside))) / 1e6)

    def _pip(self, folder: Path, *arguments: str) -> list[str]:
        return [str(self.python(folder)), "-m", "pip", "--quiet", *arguments]

    def _description(self) -> dict[str, object]:
        fields = asdict(self)
        return {name: fields[name] for name in ("requirements", "variables", "without")} | {
            "requirements": list(self.requirements),
            "without": list(self.without),
        }

    def _record(self, folder: Path) -> dict[str, object] | None:
        """How it was made; None where it wasn't, or only in part."""
        file = folder / self.name / "made.json"
        if not file.exists():
            return None
        made: dict[str, object] = json.loads(file.read_text())
        del made["bytes"]
        return made


def folder_size(folder: Path) -> int:
    """Bytes of the files in a folder, those that links lead to included, compiled Python not."""
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def _run(command: list[str], variables: Mapping[str, str] = {}) -> None:
    """Raises InstallError, with the last lines that the command wrote."""
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise InstallError(" / ".join(lines[-LOG_LINES:]) or f"status {done.returncode}")
