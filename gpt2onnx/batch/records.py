"""What was answered, line by line, in a file that is only appended to; what a kill tore is cut off.

A record is a line: a checksum, the number of the line that it answers, its kind, and the answer's
own line. A file ends with its last whole record, whatever killed its writer: it is cut there when
it is opened to go on. Knows nothing of what is in an answer.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from gpt2onnx.errors import StorageError
from gpt2onnx.files import path_errors


class Kind(Enum):
    """What became of a line."""

    ANSWER = b"a"
    ERROR = b"e"
    BLANK = b"b"  # it asks for nothing


class Record(NamedTuple):
    """What becomes of the line of a number; `content` is without a line break."""

    number: int
    kind: Kind
    content: bytes = b""
    read: int = 0  # tokens of prompts, for the count of those that come now
    written: int = 0


def encode(record: Record) -> bytes:
    """As it stands in a file."""
    body = b"%d %s %s" % (record.number, record.kind.value, record.content)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def decode(line: bytes) -> Record | None:
    """A record; None for what is none, or was torn."""
    checksum, _, body = line[:-1].partition(b" ")
    if line[-1:] != b"\n" or checksum != b"%08x" % zlib.crc32(body):
        return None
    number, kind, content = body.split(b" ", 2)
    return Record(int(number), Kind(kind), content)


def records(path: Path) -> Iterator[Record]:
    """Those of a file, up to the first that is torn. Raises OSError."""
    with path.open("rb") as file:
        for line in file:
            record = decode(line)
            if record is None:
                return
            yield record


class RecordFile:
    """A file of records that goes on where it was whole. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path_errors(path, StorageError):
            self._open(path)

    def _open(self, path: Path) -> None:
        self.done: set[int] = set()  # the numbers that are there
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        whole = 0
        for record in records(path):
            self.done.add(record.number)
            whole += len(encode(record))
        os.ftruncate(self._file, whole)
        os.lseek(self._file, whole, os.SEEK_SET)
        self._is_synced = True

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: object, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._file)

    def append(self, record: Record) -> None:
        """Write one more. A kill keeps it from now on; a crash of the machine, once it's synced."""
        content = memoryview(encode(record))
        with path_errors(self._path, StorageError):
            while content:
                content = content[os.write(self._file, content) :]
        self.done.add(record.number)
        self._is_synced = False

    def sync(self) -> None:
        """Have the disk keep what was written."""
        if not self._is_synced:
            with path_errors(self._path, StorageError):
                os.fsync(self._file)
            self._is_synced = True
