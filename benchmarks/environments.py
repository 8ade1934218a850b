"""Virtual environments, one an engine, made once and kept. Knows pip, and no engine.

An installation that takes longer than it is given is ended, with all that it started.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

LOG_LINES = 3


class InstallError(Exception):
    """An environment can't be made; the message is pip's own."""


@dataclass(frozen=True)
class Environment:
    """What to install. `beside` are folders that run from where they are and count as installed.

    `built` are projects' folders, built into it, and anew where a file in them has changed.
    """

    name: str
    requirements: tuple[str, ...]
    # For builds from source.
    variables: Mapping[str, str] = field(default_factory=dict)
    # To be removed again: what is required by name only, and breaks the rest.
    without: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()
    built: tuple[Path, ...] = ()

    def python(self, folder: Path) -> Path:
        return folder / self.name / "bin" / "python"

    def make(self, folder: Path, seconds: float | None = None) -> None:
        """Make it under `folder`, unless it is there as described.

        Raises InstallError, also where one of its commands takes more than `seconds`.
        """
        if self._record(folder) == self._description():
            return
        place = folder / self.name
        shutil.rmtree(place, ignore_errors=True)
        print(f"bench: making the environment {place}", file=sys.stderr)
        run([sys.executable, "-m", "venv", str(place)], seconds)
        bare = folder_size(place)
        variables = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", **self.variables}
        if self.variables:  # what pip has built before, and keeps, it built otherwise
            variables["PIP_CACHE_DIR"] = str((folder / "builds").resolve())
        projects = map(str, self.built)
        run(self._pip(folder, "install", *self.requirements, *projects), seconds, variables)
        if self.without:
            run(self._pip(folder, "uninstall", "--yes", *self.without), seconds, variables)
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
        told: dict[str, object] = {
            **{name: fields[name] for name in ("requirements", "variables", "without")},
            "requirements": list(self.requirements),
            "without": list(self.without),
        }
        return told | ({"built": [*map(_digest, self.built)]} if self.built else {})

    def _record(self, folder: Path) -> dict[str, object] | None:
        """How it was made; None where it wasn't, or only in part."""
        file = folder / self.name / "made.json"
        if not file.exists():
            return None
        made: dict[str, object] = json.loads(file.read_text())
        del made["bytes"]
        return made


def _digest(project: Path) -> str:
    """Changes when a file of a project's folder does."""
    told = [(str(path.relative_to(project)), path.read_bytes()) for path in sorted(_files(project))]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def folder_size(folder: Path) -> int:
    """Bytes of the files in a folder, those that links lead to included, compiled Python not."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    """All but compiled Python, which comes and goes."""
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def run(
    command: Sequence[str],
    seconds: float | None = None,
    variables: Mapping[str, str] = {},
    cwd: Path | None = None,
) -> None:
    """Run what installs. Raises InstallError, with the last lines that the command wrote."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    )
    with process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise InstallError(f"{command[0]} had not ended after {seconds:g} s") from None
            raise
    if process.returncode:
        lines = [line for line in said.splitlines() if line.strip()]
        raise InstallError(" / ".join(lines[-LOG_LINES:]) or f"status {process.returncode}")
