"""The start-up cache on disk: bounded, never half-written, safe with several processes.

An entry is a folder named by a hash of what it was made of. It is written in a stage and renamed
when it is complete, so that nobody sees a part of it; of two that were made at once the
later one gives way.

A file's size and times stand for its content. One of them, st_ctime, is the system's own: it tells
of whatever was written to a file since, whichever time the writer set. Where a time is another one,
as in a copy, the content is compared. To compare it each time would take longer than opening the
model (300 MB: 0.3 s); what a disk loses by itself is left to the disk, as for any other file.

Knows files and times; knows nothing of models or ONNX Runtime.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from gpt2onnx.errors import Given, StorageError
from gpt2onnx.files import read_json, sha256
from gpt2onnx.runtime.machine.sizes import parse_size
from gpt2onnx.staging import NEW, is_stage, stage

ENTRY = "entry.json"
# What entries are for as long as they are written, each in a stage of its own.
UNFINISHED = "unfinished"
# What is neither an entry nor being written, and older than this, was damaged.
ABANDONED_AFTER = 3600.0
SIZE, DEFAULT_SIZE = "GPT2ONNX_STARTUP_CACHE_SIZE", "4G"


class Stamp(NamedTuple):
    """What a file was when it was written."""

    size: int
    modified: int  # st_mtime_ns
    changed: int  # st_ctime_ns
    sha256: str

    @classmethod
    def of(cls, file: Path) -> Stamp:
        """Raises OSError, StorageError where it is no regular file."""
        return cls(*_times(file), sha256(file, StorageError))

    def renewed(self, file: Path) -> Stamp:
        """The stamp of a file with the same content, whatever its times; errors as `of`'s.

        Raises StorageError where the content is another one.
        """
        if _times(file) == self[:3]:
            return self
        if file.stat().st_size == self.size and (now := Stamp.of(file)).sha256 == self.sha256:
            return now
        raise StorageError(f"{file}: isn't what was written", path=file)


@dataclass(frozen=True)
class Entry:
    """One model, or why there is none: `refused` says what kept it from being cached."""

    path: Path
    made_of: Mapping[str, Any]
    about: Mapping[str, Any]
    files: Mapping[str, Stamp]
    refused: str | None
    last_used: float  # seconds since the epoch

    @property
    def size(self) -> int:
        return sum(stamp.size for stamp in self.files.values())

    def renewed(self) -> Entry | None:
        """The same with its files' times as they are now; None where one was damaged."""
        try:
            files = {name: stamp.renewed(self.path / name) for name, stamp in self.files.items()}
        except (OSError, StorageError):
            return None
        return replace(self, files=files)

    def write(self, to: Path) -> None:
        """Write what is known of it. Raises OSError."""
        names = ("made_of", "about", "files", "refused")
        content = {name: getattr(self, name) for name in names}
        to.write_text(json.dumps(content, indent=1), encoding="utf-8")


class Entries:
    """The entries in a folder, `limit` bytes at most; the least recently used goes first."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def find(self, made_of: Mapping[str, Any]) -> Entry | None:
        """The entry made of exactly that, marked as used now; one that was damaged is removed."""
        path = self.folder / _name(made_of)
        try:
            if not path.is_dir():
                return None
        except OSError:  # another user's cache, or no place that there can be
            return None
        entry = _read(path)
        now = entry.renewed() if entry and entry.made_of == made_of else None
        if now is None:
            self.remove(path)
            return None
        with contextlib.suppress(OSError):  # a cache that others fill, and we may only read
            if now != entry:
                now.write(path / f"{ENTRY}.{_unique()}")
                (path / f"{ENTRY}.{_unique()}").replace(path / ENTRY)
            os.utime(path / ENTRY)
        return now

    def add(
        self,
        made_of: Mapping[str, Any],
        about: Mapping[str, Any],
        write: Callable[[Path], str | None],
    ) -> None:
        """Have `write` fill a folder, and make an entry of it.

        What `write` returns is why there is nothing to keep, which is remembered instead; what it
        raises leaves nothing behind. Raises OSError.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        with stage(self.folder / UNFINISHED) as temporary:
            unfinished = temporary / NEW
            unfinished.mkdir()
            refused = write(unfinished)
            for file in list(unfinished.iterdir()) if refused else []:
                file.unlink()
            self._finish(unfinished, made_of, about, refused)

    def remove(self, path: Path) -> None:
        """Remove an entry. A process that has it open keeps it open."""
        shutil.rmtree(path, ignore_errors=True)

    def __iter__(self) -> Iterator[Entry]:
        """The whole entries, the most recently used first."""
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        found = [entry for path in paths if (entry := _read(path))]
        yield from sorted(found, key=lambda entry: -entry.last_used)

    def _finish(
        self,
        unfinished: Path,
        made_of: Mapping[str, Any],
        about: Mapping[str, Any],
        refused: str | None,
    ) -> None:
        files = {file.name: Stamp.of(file) for file in sorted(unfinished.iterdir())}
        entry = Entry(unfinished, made_of, about, files, refused, time.time())
        if entry.size > self.limit:
            taken = entry.size / 1e9
            raise OSError(f"an entry takes {taken:.1f} GB, the limit is {self.limit / 1e9:g}")
        self._make_room(entry.size)
        entry.write(unfinished / ENTRY)
        finished = self.folder / _name(made_of)
        try:
            unfinished.rename(finished)
        except OSError:
            if not finished.is_dir():  # or another process was faster
                raise

    def _make_room(self, size: int) -> None:
        entries = list(self)
        while entries and sum(entry.size for entry in entries) + size > self.limit:
            self.remove(entries.pop().path)

    def others(self) -> Iterator[Path]:
        """What is no entry: being written, abandoned, or damaged."""
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        yield from (path for path in paths if _read(path) is None)

    def _sweep(self) -> None:
        """Remove what was damaged, and what is no entry of this version's."""
        for path in self.others():
            with contextlib.suppress(OSError):  # another process has just removed it
                if not is_stage(path) and time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                    self.remove(path)


def size_limit() -> int:
    """GPT2ONNX_STARTUP_CACHE_SIZE in bytes: a number with K, M, G or T behind it, or without."""
    text = os.environ.get(SIZE) or DEFAULT_SIZE
    return parse_size(text, Given(SIZE, text))


def _name(made_of: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]


def _unique() -> str:
    """A name that no other thread of any process has."""
    return f"{os.getpid()}-{threading.get_native_id()}"


def _times(file: Path) -> tuple[int, int, int]:
    """A file's size, and the times of the last change to its content and of any change."""
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _read(path: Path) -> Entry | None:
    """The entry in a folder; None for what is none, or none any more."""
    try:
        content = read_json(path / ENTRY, StorageError)
        last_used = (path / ENTRY).stat().st_mtime
    except (OSError, StorageError):
        return None
    made_of, about, files = (content.get(name) for name in ("made_of", "about", "files"))
    refused = content.get("refused")
    if not (isinstance(made_of, dict) and isinstance(about, dict) and isinstance(files, dict)):
        return None
    if not isinstance(refused, str | None) or not all(_is_stamp(*file) for file in files.items()):
        return None
    stamps = {name: Stamp(*stamp) for name, stamp in files.items()}
    return Entry(path, made_of, about, stamps, refused, last_used)


def _is_stamp(name: str, stamp: object) -> bool:
    """Whether this is a file's name in the entry's own folder, and a stamp of it."""
    types = (int, int, int, str)
    if not isinstance(stamp, list) or tuple(map(type, stamp)) != types:
        return False
    return Path(name).name == name != "" and "\0" not in name and stamp[0] in range(2**63)
