"""Whole shards become one file of answers and one of errors, and make way as they do.

A log says which shards are in, and how long both files are then; what a kill left behind that is
cut off. So the answers are on the disk once, but for the shards that are being written.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from gpt2onnx.batch.records import Kind, Record, records
from gpt2onnx.batch.shards import Shard
from gpt2onnx.errors import BatchError

ANSWERS, ERRORS, LOG = "answers", "errors", "merged"


def shard_path(folder: Path, shard: Shard) -> Path:
    """Where a shard's records are until they are merged."""
    return folder / f"shard-{shard.number:06}"


class Merger:
    """Merges shards, in their order if `ordered`, else as they come. Raises OSError."""

    def __init__(self, folder: Path, shards: list[Shard], ordered: bool) -> None:
        self._folder, self._shards, self._ordered = folder, shards, ordered
        self._whole: dict[int, Shard] = {}  # that wait for those before them
        self._open = ExitStack()
        entries = list(_entries(folder / LOG))
        self.merged = {index for index, *_ in entries}
        self.failed = sum(failed for *_, failed in entries)
        for number in self.merged:
            shard_path(folder, shards[number]).unlink(missing_ok=True)
        answers, errors = entries[-1][1:3] if entries else (0, 0)
        if entries and self.is_complete:  # both files may have gone where they belong
            return
        self._answers = self._opened(ANSWERS, answers)
        self._errors = self._opened(ERRORS, errors)
        self._log = self._opened(LOG, sum(len(_entry(each)) for each in entries))

    def __enter__(self) -> Merger:
        return self

    def __exit__(self, *raised: object) -> None:
        self._open.close()

    @property
    def is_complete(self) -> bool:
        return len(self.merged) == len(self._shards)

    def missing(self) -> list[tuple[Shard, Path]]:
        """The shards that aren't whole yet, and where their records go."""
        there = self.merged | self._whole.keys()
        return [(s, shard_path(self._folder, s)) for s in self._shards if s.number not in there]

    def add(self, shard: Shard) -> None:
        """Take a shard that is whole."""
        self._whole[shard.number] = shard
        while self._whole and (following := self._next()):
            self._merge(self._whole.pop(following.number))

    def finish(self, output: Path, errors: Path) -> bool:
        """Put both files where they belong; says whether there are errors. Again is harmless."""
        self._open.close()
        place = self._folder / ERRORS
        if place.exists() and place.stat().st_size:
            place.replace(errors)
        if (self._folder / ANSWERS).exists():
            (self._folder / ANSWERS).replace(output)
        _sync_folder(output.parent)
        return self.failed > 0

    def _next(self) -> Shard | None:
        """One that may be merged now."""
        if not self._ordered:
            return next(iter(self._whole.values()))
        return self._whole.get(len(self.merged))

    def _merge(self, shard: Shard) -> None:
        path, count, failed = shard_path(self._folder, shard), 0, 0
        for record in self._records(path):
            count += 1
            if record.kind is not Kind.BLANK:
                file = self._answers if record.kind is Kind.ANSWER else self._errors
                file.write(record.content + b"\n")
            failed += record.kind is Kind.ERROR
        if count != shard.lines:
            raise BatchError(
                f"{path}: {count} records of {shard.lines} lines; a bug, please tell us",
                path=path,
            )
        for file in (self._answers, self._errors):
            _sync(file)
        self._log.write(_entry((shard.number, self._answers.tell(), self._errors.tell(), failed)))
        _sync(self._log)
        self.merged.add(shard.number)
        self.failed += failed
        path.unlink()

    def _records(self, path: Path) -> Iterator[Record]:
        """A shard's records, by their lines' numbers if that matters."""
        if not self._ordered:
            return records(path)
        return iter(sorted(records(path), key=lambda record: record.number))

    def _opened(self, name: str, size: int) -> IO[bytes]:
        """A file that is to go on at `size`."""
        file = self._open.enter_context((self._folder / name).open("ab"))
        if file.tell() < size:
            raise FileNotFoundError(2, "shorter than its log says", str(self._folder / name))
        file.truncate(size)
        return file


Entry = tuple[int, int, int, int]  # a shard, the bytes of answers and errors, the shard's errors


def _entry(entry: Entry) -> bytes:
    return b"%d %d %d %d .\n" % entry


def _entries(path: Path) -> Iterator[Entry]:
    """Those of a log, up to the first that is torn."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            if not line.endswith(b" .\n"):
                return
            index, answers, errors, failed = map(int, line.split()[:4])
            yield index, answers, errors, failed


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear(folder: Path, keep: str) -> None:
    """Remove what is in a job's folder, but for one file. Raises OSError."""
    for each in folder.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif each.name != keep:
            each.unlink()
