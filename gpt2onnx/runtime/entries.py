"""What the start-up cache holds on disk: bounded, whole or not there, safe with several processes.

An entry is a folder named by a hash of what it was made of. It is written in a stage and renamed
when it is complete, so that nobody sees a part of it; of two that were made at once the later one
gives way. Knows files and times; knows nothing of models or ONNX Runtime.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2onnx.errors import ParameterError
from gpt2onnx.staging import NEW, stage

ENTRY = "entry.json"
# What entries are for as long as they are written, each in a stage of its own.
UNFINISHED = "unfinished"
SIZE, DEFAULT_SIZE = "GPT2ONNX_STARTUP_CACHE_SIZE", "4G"
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Entry:
    """One model, or why there is none: `refused` says what kept it from being cached."""

    path: Path
    made_of: Mapping[str, Any]
    about: Mapping[str, Any]
    files: Mapping[str, list[int]]
    refused: str | None
    last_used: float  # seconds since the epoch

    @property
    def size(self) -> int:
        return sum(size for size, _ in self.files.values())

    def is_whole(self) -> bool:
        """Whether its files have the sizes and times that they were written with."""
        try:
            return all(_stamp(self.path / name) == stamp for name, stamp in self.files.items())
        except OSError:
            return False


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
        except PermissionError:  # another user's cache
            return None
        entry = _read(path)
        if entry is None or entry.made_of != made_of or not entry.is_whole():
            self.remove(path)
            return None
        with contextlib.suppress(OSError):  # a cache that others fill, and we may only read
            os.utime(path / ENTRY)
        return entry

    def add(
        self,
        made_of: Mapping[str, Any],
        about: Mapping[str, Any],
        write: Callable[[Path], str | None],
    ) -> None:
        """Have `write` fill a folder, and make an entry of it.

        What `write` returns is why there is nothing to keep, which is remembered instead; what it
        raises leaves nothing behind. Errors: OSError.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
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
        files = {file.name: _stamp(file) for file in sorted(unfinished.iterdir())}
        size = sum(size for size, _ in files.values())
        if size > self.limit:
            raise OSError(f"an entry takes {size / 1e9:.1f} GB, the limit is {self.limit / 1e9:g}")
        self._make_room(size)
        content = {"made_of": made_of, "about": about, "files": files, "refused": refused}
        (unfinished / ENTRY).write_text(json.dumps(content, indent=1), encoding="utf-8")
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


def size_limit() -> int:
    """GPT2ONNX_STARTUP_CACHE_SIZE in bytes: a number with K, M, G or T behind it, or without."""
    text = os.environ.get(SIZE) or DEFAULT_SIZE
    found = re.fullmatch(r"([0-9]+) ?([KMGT]?)B?", text.strip().upper())
    if not found:
        raise ParameterError(f"{SIZE}={text!r}: expected a size such as 500M or 4G; 0 turns it off")
    return int(found[1]) * UNITS[found[2]]


def _name(made_of: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]


def _stamp(file: Path) -> list[int]:
    """Size and time of a file's last change."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _read(path: Path) -> Entry | None:
    """The entry in a folder; None for what is none, or none any more."""
    try:
        content = json.loads((path / ENTRY).read_text(encoding="utf-8"))
        return Entry(path, **content, last_used=(path / ENTRY).stat().st_mtime)
    except (OSError, ValueError, TypeError):
        return None
