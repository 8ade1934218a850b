"""A server as a process of its own: its start, what it takes of the machine, its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.process import ROOT, environment, last_line

PATIENCE_S = 120.0


class StartError(Exception):
    """A server didn't start; the message is one line."""


class Taken(NamedTuple):
    """What a process has of the machine."""

    anonymous_mb: float
    files: int
    threads: int
    processor_s: float  # since its start


class Server:
    """A command that serves HTTP on a port; its words go to `log`."""

    def __init__(
        self, command: list[str], port: int, log: Path, checkout: str | Path = ROOT
    ) -> None:
        """It runs in `checkout`, whose packages are what it imports."""
        self.port, self._log = port, log
        with log.open("w") as words:
            self.process = subprocess.Popen(
                command,
                stdout=words,
                stderr=words,
                cwd=checkout,
                env=environment({"PYTHONPATH": str(checkout)}),
                process_group=0,
            )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def wait_until_ready(self, path: str = "/health") -> float:
        """Seconds until a path answers 200. Raises StartError."""
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE_S:
            if self.process.poll() is not None:
                words = last_line(self._log.read_text(errors="replace"))
                raise StartError(f"ended with status {self.process.returncode}: {words}")
            try:
                if get(self.port, path)[0] == 200:
                    return time.monotonic() - began
            except OSError:  # it doesn't listen yet
                pass
            time.sleep(0.05)
        self.close()
        raise StartError(f"didn't answer in {PATIENCE_S:.0f} s")

    def pause(self) -> None:
        """Stop it where it is: an idle server's threads may spin, and take the others' cores."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def taken(self) -> Taken:
        """Reads /proc."""
        place = Path("/proc", str(self.process.pid))
        status = (place / "status").read_text()
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # utime, stime
        return Taken(
            _field(status, "RssAnon") * 1024 / 1e6,
            len(list((place / "fd").iterdir())),
            _field(status, "Threads"),
            ticks / os.sysconf("SC_CLK_TCK"),
        )

    def close(self) -> int:
        """Ask it to end, and have it ended where it doesn't."""
        if self.process.poll() is None:
            self.go_on()
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def ours(model: str | Path, port: int, *options: str) -> list[str]:
    """The command that serves a model folder with this checkout."""
    folder = Path(model).resolve() if Path(model).exists() else model  # the bundled one's name
    command = [sys.executable, "-m", "gpt2onnx", "serve", f"model={folder}"]
    return [*command, "--port", str(port), "--provider", "cpu", *options]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def get(port: int, path: str) -> tuple[int, bytes]:
    """A status and a body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def post(port: int, path: str, body: Any) -> tuple[int, Any]:
    """A status and an object, of a request that waits as long as it takes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        content = json.dumps(body).encode()
        connection.request("POST", path, content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _field(status: str, name: str) -> int:
    return int(status.split(f"{name}:")[1].split()[0])
