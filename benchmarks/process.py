"""A worker as the driver sees it: a process that is asked, and sleeps in between.

An idle engine's threads may spin for a while and take the cores from whoever is measured next: a
worker that isn't asked is stopped (SIGSTOP), and continued for each question. Knows no engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# Compiling a model for each length takes a minute or two; nothing takes this long but what hangs.
PATIENCE_S = 900.0


class WorkerError(Exception):
    """A worker couldn't do what it was asked; the message is one line."""


class Worker:
    """A running `python -m benchmarks.worker serve`, whose standard error goes to `log`."""

    def __init__(
        self, python: Path, spec: Mapping[str, Any], variables: Mapping[str, str], log: Path
    ) -> None:
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                worker_command(python, "serve", spec),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(variables),
                # Ctrl-C is the driver's; and when it is gone, the kernel hangs up on a stopped
                # group of its session, which a session of its own would not get.
                process_group=0,
            )

    def ask(self, do: str, **request: Any) -> Any:
        """Raises WorkerError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(self._end()) from None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        if not ready:
            self.close()
            raise WorkerError(f"no answer in {PATIENCE_S:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._end())
        os.kill(self._process.pid, signal.SIGSTOP)
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"].splitlines()[0])
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _end(self) -> str:
        """Why it is no more."""
        status = self._process.wait()
        return f"ended with status {status}: {last_line(self._log.read_text(errors='replace'))}"


def first_output(command: list[str], variables: Mapping[str, str]) -> float:
    """Seconds from a process's start to the first byte that it writes. Raises WorkerError."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(variables),
    )
    try:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - started
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    if not first or process.returncode:
        raise WorkerError(
            f"status {process.returncode}: {last_line(errors.decode(errors='replace'))}"
        )
    return seconds


def run(command: list[str], variables: Mapping[str, str]) -> None:
    """Run to the end. Raises WorkerError."""
    done = subprocess.run(
        command, env=environment(variables), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise WorkerError(f"status {done.returncode}: {last_line(done.stderr)}")


def worker_command(python: Path, command: str, spec: Mapping[str, Any]) -> list[str]:
    return [str(python), "-m", "benchmarks.worker", command, json.dumps(spec)]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The driver's own variables, with this checkout to import from.

    Python keeps the checkout's bytecode, as pip does of what it installs: without it a process
    compiles gpt2onnx each time, for 0.1 s, and nobody else's package.
    """
    own = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    return {**os.environ, **own, **variables}


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing on standard error"
