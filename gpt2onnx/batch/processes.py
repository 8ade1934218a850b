"""Workers on this machine, a process each: they are given shards, and told of when they die."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path

from gpt2onnx.batch.events import LANES, Event, Finished, Lost, Work
from gpt2onnx.batch.spec import WorkerSpec

PACKAGES = Path(__file__).parents[2]


class Processes:
    """`count` workers, each replaced when it dies. `lock` is a descriptor that they hold open."""

    def __init__(self, count: int, spec: WorkerSpec, lock: int) -> None:
        self._spec, self._lock = spec, lock
        self._workers = [_Worker(spec, lock) for _ in range(count)]

    def assign(self, work: Work) -> bool:
        """Give work to the worker that has least; False where all have enough."""
        worker = min(self._workers, key=lambda each: len(each.works))
        return len(worker.works) < LANES and worker.give(work)

    def events(self, seconds: float) -> Iterator[Event]:
        """What has happened, as soon as something does."""
        by_connection = {each.connection: each for each in self._workers}
        for ready in wait(list(by_connection), seconds):
            worker = by_connection[ready]  # type: ignore[index]
            event = worker.heard()
            yield event
            if isinstance(event, Lost):
                self._workers.remove(worker)
                self._workers.append(_Worker(self._spec, self._lock))

    def close(self) -> None:
        """End them all at once: what they appended stays."""
        for each in self._workers:
            each.end()


class _Worker:
    """A process, and the works that it has."""

    def __init__(self, spec: WorkerSpec, lock: int) -> None:
        self.works: dict[int, Work] = {}
        self.connection, theirs = Pipe()
        path = os.pathsep.join([str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpt2onnx.batch.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), lock),
            env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        self._send(spec)

    def give(self, work: Work) -> bool:
        self.works[work.shard.number] = work
        self._send(work)
        return True

    def heard(self) -> Event:
        """What it says; that it is lost where it says no more."""
        try:
            event: Event = self.connection.recv()
        except (EOFError, OSError):
            self.end()
            return Lost(tuple(self.works.values()), _how(self._process.returncode))
        if isinstance(event, Finished):
            del self.works[event.shard.number]
        return event

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self.connection.close()

    def _send(self, message: object) -> None:
        """Tell it; of one that is dead the connection's end will say so."""
        with suppress(OSError):
            self.connection.send(message)


def _how(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with status {status}"
