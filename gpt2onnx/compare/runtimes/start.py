"""Runs a job in its runtime's own process: Python's, Node's, or a browser's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpt2onnx.compare.runtimes.browser import in_browser
from gpt2onnx.compare.runtimes.job import Job, UnavailableError, Written, short, written
from gpt2onnx.compare.runtimes.places import Installed, Places, browser, node
from gpt2onnx.compare.runtimes.table import RUNTIMES, Runtime

PROGRAMS = Path(__file__).parent / "programs"
SECONDS = 600
HERE = Installed()


def start(job: Job, places: Places = HERE) -> Written:
    """Raises UnavailableError, with the reason, where the runtime can't do it."""
    runtime = RUNTIMES[job.runtime]
    if runtime.starter == "python":
        return written(_asked([str(places.python(runtime)), str(PROGRAMS / "greedy.py")], job))
    job = replace(job, modules=str(places.modules(runtime)))
    if runtime.starter == "node":
        return written(_asked([node(), str(PROGRAMS / "node.mjs")], job))
    return written(in_browser(job, PROGRAMS, SECONDS))


def require(runtime: Runtime, places: Places = HERE) -> None:
    """Raise UnavailableError, with what installs it, where a runtime can't be started."""
    if runtime.starter == "python":
        places.python(runtime)
        return
    places.modules(runtime)
    (node if runtime.starter == "node" else browser)()


@dataclass(frozen=True)
class Starter:
    """Both, of runtimes in some places."""

    places: Places = HERE

    def require(self, runtime: Runtime) -> None:
        require(runtime, self.places)

    def write(self, job: Job) -> Written:
        return start(job, self.places)


def _asked(command: Sequence[str], job: Job) -> dict[str, Any]:
    try:
        done = subprocess.run(
            command,
            input=job.to_json(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"no answer in {SECONDS} s") from None
    if done.returncode or not done.stdout.strip():
        said = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        raise UnavailableError(short(said[-1]))
    last = done.stdout.splitlines()[-1]
    try:
        answer: dict[str, Any] = json.loads(last)
    except ValueError:
        raise UnavailableError(f"its last line is no answer: {short(last)}") from None
    return answer
