"""A worker: a process with one engine, which answers shards and appends to their files.

    python -m gpt2onnx.batch.worker CONNECTION

It is told by a supervisor over a socket, the descriptor CONNECTION: a WorkerSpec, then shards. It
tells that it is ready, how far it got, and which shards are whole. Where the supervisor has gone,
however that came, it ends at once: what it appended stays.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gpt2onnx.batch.answering import Answerer
from gpt2onnx.batch.events import LANES, Failed, Finished, Progress, Ready, Work
from gpt2onnx.batch.lines import read_lines
from gpt2onnx.batch.opening import open_answerer
from gpt2onnx.batch.records import Kind, Record, RecordFile
from gpt2onnx.errors import BatchError, Gpt2OnnxError, PromptError
from gpt2onnx.files import open_regular

# Seconds between two syncs of a shard's file, and two words to the supervisor.
PAUSE = 0.5


def main() -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # the supervisor ends its workers
    supervisor = Connection(int(sys.argv[1]))
    try:
        asyncio.run(_work(supervisor))
    except Gpt2OnnxError as error:
        supervisor.send(Failed(error))
    except Exception as error:  # a bug, whose traceback goes to standard error
        supervisor.send(Failed(BatchError(f"a worker failed: {type(error).__name__}: {error}")))
        raise


def _received(supervisor: Connection) -> Any:
    """What the supervisor says next; the end of the process where it has gone."""
    try:
        return supervisor.recv()
    except (EOFError, OSError):
        os._exit(1)


async def _work(supervisor: Connection) -> None:
    """Answer shards for ever."""
    spec, works = _received(supervisor), asyncio.Queue[Work]()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        while True:
            loop.call_soon_threadsafe(works.put_nowait, _received(supervisor))

    threading.Thread(target=listen, daemon=True).start()
    with open_answerer(spec) as answerer:
        supervisor.send(Ready())
        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(LANES):
                    lanes.create_task(_answer_all(works, answerer, supervisor))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None


async def _answer_all(
    works: asyncio.Queue[Work], answerer: Answerer, supervisor: Connection
) -> None:
    while True:
        work = await works.get()
        with ExitStack() as files:
            shard_file = files.enter_context(RecordFile(Path(work.target)))
            source = files.enter_context(open_regular(Path(work.source), PromptError))
            work.require_unchanged(source.fileno())
            told = _Told(work, shard_file, supervisor)
            shard = work.shard
            lines = read_lines(source, shard.start, shard.end, shard.first)
            left = (each for each in lines if each.number not in shard_file.done)
            telling = asyncio.create_task(told.tell_again())
            try:
                await answerer.answer(left, told.take)
            finally:
                telling.cancel()
            told.tell()
        supervisor.send(Finished(work.shard))


class _Told:
    """Appends a shard's records, and tells the supervisor how many there are, now and then."""

    def __init__(self, work: Work, file: RecordFile, supervisor: Connection) -> None:
        self._work, self._file, self._supervisor = work, file, supervisor
        self._clear()

    def _clear(self) -> None:
        self._lines = self._failed = self._read = self._written = 0

    def take(self, record: Record) -> None:
        self._file.append(record)
        self._lines += 1
        self._failed += record.kind is Kind.ERROR
        self._read += record.read
        self._written += record.written

    def tell(self) -> None:
        self._file.sync()
        if self._lines:
            counts = (self._lines, self._failed, self._read, self._written)
            self._supervisor.send(Progress(self._work.shard, *counts))
            self._clear()

    async def tell_again(self) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            self.tell()


if __name__ == "__main__":
    main()
