"""Workers on a Ray cluster, an actor each. Ray says where they run, and when a node is lost.

Shards go out as lines and come back as records, which are written down here, as they come: so a
lost node costs what it hadn't told yet. Knows Ray's core alone.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from gpt2onnx.batch.events import LANES, Event, Failed, Finished, Lost, Progress, Ready, Work
from gpt2onnx.batch.lines import Line, read_lines
from gpt2onnx.batch.ray_worker import About, RayWorker, pack, versions
from gpt2onnx.batch.records import Kind, Record, RecordFile
from gpt2onnx.batch.spec import WorkerSpec
from gpt2onnx.errors import BatchError, PromptError
from gpt2onnx.files import open_regular

# Seconds that an address has to answer.
PATIENCE = 10.0


class RayPool:
    """`count` actors, or one for each `threads` of the cluster's processors; replaced when lost."""

    def __init__(self, address: str, count: int | None, spec: WorkerSpec) -> None:
        """Raises BatchError where the cluster can't be used."""
        self._is_ours = connect(address)
        threads = spec.load_options["threads"] or 1
        if count is None:
            count = max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
        neighbours = max(1, -(-count // max(1, len(ray.nodes()))))
        options = {**spec.load_options, "threads": threads}
        self._spec = replace(spec, load_options=options, neighbours=neighbours)
        on_gpu = spec.load_options["provider"] == "cuda"
        actor = ray.remote(num_cpus=threads, num_gpus=int(on_gpu), max_concurrency=16)(RayWorker)
        self._actor = actor
        self._files: Any = None  # the model's, in the object store once a node lacks them
        self._workers = [self._start() for _ in range(count)]

    def assign(self, work: Work) -> bool:
        """Send work to the worker that has least; False where all have enough."""
        able = [each for each in self._workers if each.is_ready and len(each.works) < LANES]
        if not able:
            return False
        min(able, key=lambda each: len(each.works)).give(work)
        return True

    def events(self, seconds: float) -> Iterator[Event]:
        """What has happened, as soon as something does."""
        awaited = {ref: each for each in self._workers for ref in each.awaited()}
        ready, _ = ray.wait(list(awaited), num_returns=1, timeout=seconds)
        for ref in ready:
            worker = awaited[ref]
            try:
                yield from worker.heard(ref, self._model_files)
            except RayTaskError as error:  # raised there, and would be raised elsewhere, too
                yield Failed(error.cause if isinstance(error.cause, Exception) else error)
            except RayError as error:
                yield self._replace(worker, str(error).splitlines()[0])

    def close(self) -> None:
        """End them all at once: what came is written down."""
        for each in self._workers:
            each.end()
        if self._is_ours:
            ray.shutdown()

    def _start(self) -> _Worker:
        return _Worker(self._actor.remote(self._spec))

    def _replace(self, worker: _Worker, why: str) -> Lost:
        works = tuple(work for work, _ in worker.works.values())
        worker.end()
        self._workers.remove(worker)
        self._workers.append(self._start())
        return Lost(works, f"with its node or process: {why}")

    def _model_files(self) -> Any:
        """The model's files in the object store, from which each node takes them once."""
        if self._files is None:
            self._files = ray.put(pack(Path(self._spec.folder)))
        return self._files


class _Worker:
    """An actor, and the works that it has, each with the file that its records go into."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._about = actor.about.remote()
        self._opening: Any = None
        self.is_ready = False
        self.works: dict[Any, tuple[Work, RecordFile]] = {}

    def awaited(self) -> list[Any]:
        """What Ray may have next from it."""
        if self.is_ready:
            return list(self.works)
        return [self._opening or self._about]

    def give(self, work: Work) -> None:
        file = RecordFile(Path(work.target))
        lines = self._actor.answer.remote(_lines(work, file.done))
        self.works[lines] = (work, file)

    def heard(self, ref: Any, model_files: Any) -> Iterator[Event]:
        """What has come. Raises RayError."""
        if ref is self._about:
            about: About = ray.get(ref)
            _require_same(about)
            self._opening = self._actor.open.remote(None if about.has_model else model_files())
        elif ref is self._opening:
            ray.get(ref)
            self.is_ready = True
            yield Ready()
        else:
            yield from self._written(ref)

    def end(self) -> None:
        for _, file in self.works.values():
            file.close()
        ray.kill(self._actor)

    def _written(self, stream: Any) -> Iterator[Event]:
        """Write down what has come of a shard."""
        work, file = self.works[stream]
        try:
            came: list[Record] = ray.get(next(stream))
        except StopIteration:
            file.close()
            del self.works[stream]
            yield Finished(work.shard)
            return
        for record in came:
            file.append(record)
        file.sync()
        if came:
            yield _progress(work, came)


def connect(address: str) -> bool:
    """Join a cluster; False where this process has. Raises BatchError."""
    if ray.is_initialized():
        return False
    _require_answer(address)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise BatchError(
            f"Ray at {address}: {error}; `ray status --address {address}` tells more"
        ) from error
    return True


def _require_answer(address: str) -> None:
    """Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():  # auto, or local
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise BatchError(
            f"Ray at {address}: nothing answers there ({error}); expected a cluster, which "
            "`ray start --head` begins"
        ) from error


def _require_same(about: About) -> None:
    mine = versions()
    theirs = (about.python, about.gpt2onnx)
    if theirs != mine:
        raise BatchError(
            f"the node {about.node} has Python {theirs[0]} with gpt2onnx {theirs[1]}, this "
            f"machine Python {mine[0]} with gpt2onnx {mine[1]}: expected the same on both; "
            "install what is here on all nodes"
        )


def _lines(work: Work, done: set[int]) -> Sequence[Line]:
    """What is left of a shard. Raises PromptError."""
    with ExitStack() as files:
        source = files.enter_context(open_regular(Path(work.source), PromptError))
        work.require_unchanged(source.fileno())
        shard = work.shard
        lines = read_lines(source, shard.start, shard.end, shard.first)
        return [each for each in lines if each.number not in done]


def _progress(work: Work, came: Sequence[Record]) -> Progress:
    failed = sum(each.kind is Kind.ERROR for each in came)
    read, written = sum(each.read for each in came), sum(each.written for each in came)
    return Progress(work.shard, len(came), failed, read, written)
