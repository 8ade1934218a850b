"""Lists and clears what gpt2onnx keeps in the user's cache folder.

Knows the folders that this package makes there, and touches nothing else: GPT2ONNX_CACHE may be a
folder that holds other things.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2onnx.errors import CorruptModelError
from gpt2onnx.files import read_json
from gpt2onnx.paths import cache_folder
from gpt2onnx.runtime.folder.checked import CHECKED
from gpt2onnx.runtime.folder.manifest import MANIFEST
from gpt2onnx.runtime.ort.startup_cache import FOLDER as STARTUP
from gpt2onnx.runtime.ort.startup_cache import startup_entries
from gpt2onnx.runtime.ort.startup_entries import Entry
from gpt2onnx.staging import is_stage

EXPORTS = ("demo", "demo-draft", "compare")


@dataclass(frozen=True)
class Kept:
    """One thing in the cache: what it is, its bytes, and when it was last used or written."""

    kind: str
    name: str
    path: str
    size: int
    last_used: float  # seconds since the epoch


def kept() -> list[Kept]:
    """Everything, by kind, the most recently used first."""
    found = [*_startup(), *_unfinished(), *_exports(), *_checked()]
    return sorted(found, key=lambda each: (each.kind, -each.last_used))


def clear() -> int:
    """Remove everything, and say how many bytes that were. Raises OSError.

    A process that has a model of it open keeps it open.
    """
    size = sum(each.size for each in kept())
    for name in (STARTUP, *EXPORTS, CHECKED):
        while (cache_folder() / name).is_dir():
            with contextlib.suppress(FileNotFoundError):  # a process has just renamed a part of it
                shutil.rmtree(cache_folder() / name)
    return size


def _startup() -> Iterator[Kept]:
    """Models as ONNX Runtime packed them, those of another version or processor, too."""
    for entry in startup_entries():
        yield Kept("startup", _entry_name(entry), str(entry.path), entry.size, entry.last_used)


def _entry_name(entry: Entry) -> str:
    precision, path = entry.about.get("precision"), entry.about.get("path", entry.path.name)
    graph = entry.about.get("graph")
    special = graph if graph in ("kernels", "tokenizer") else None
    kind = ", ".join(str(each) for each in (precision, special) if each)
    name = f"{path}{f' ({kind})' if kind else ''}"
    return f"{name}: none, {entry.refused}" if entry.refused else name


def _unfinished() -> Iterator[Kept]:
    """What a process is writing, or left when it died; and entries that were damaged."""
    for path in startup_entries().others():
        what = (
            "being written, or abandoned" if is_stage(path) else "damaged, made again when needed"
        )
        yield from _folder("startup", f"{path.name}: {what}", path)


def _exports() -> Iterator[Kept]:
    """What was exported: bundled and compared models; those of another version, too."""
    for name in EXPORTS:
        for path in (cache_folder() / name).glob("*/*"):
            yield from _folder("export", f"{name}, {path.name}{_source(path)}", path)


def _source(path: Path) -> str:
    """Of which checkpoint, where a manifest says so; none has one while it is being written."""
    try:
        manifest = read_json(path / MANIFEST, CorruptModelError)
        return f" of {manifest['source']['name']}"
    except (CorruptModelError, LookupError, TypeError):
        return ""


def _checked() -> Iterator[Kept]:
    """Which folders' checksums were compared: all together, for they are a line each."""
    path = cache_folder() / CHECKED
    if path.is_dir():
        yield from _folder(
            CHECKED, f"{len(list(path.iterdir()))} folders whose checksums agreed", path
        )


def _folder(kind: str, name: str, path: Path) -> Iterator[Kept]:
    """It, unless a process renames it meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        files = [file.lstat() for file in path.rglob("*") if file.is_file()]
        newest = max(stat.st_mtime for stat in (path.stat(), *files))
        yield Kept(kind, name, str(path), sum(stat.st_size for stat in files), newest)
