"""Model folders whose checksums agreed: a mark for each in the user's cache folder.

A folder that changes, or is made again, has its mark replaced; marks of folders that are gone go
when the next is made. Knows marks; knows nothing of what they vouch for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from gpt2onnx.errors import StorageError
from gpt2onnx.paths import cache_folder

CHECKED = "checked"


def agreed(folder: Path, fingerprint: str) -> bool:
    """Whether the folder was remembered with that fingerprint; no, where none can be read."""
    with contextlib.suppress(OSError, StorageError):
        return _mark(folder).read_bytes() == _content(folder, fingerprint)
    return False


def remember(folder: Path, fingerprint: str) -> None:
    """Remember a folder, as far as the cache can be written to, and forget those that are gone."""
    with contextlib.suppress(OSError, StorageError):
        mark = _mark(folder)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_bytes(_content(folder, fingerprint))
        for other in mark.parent.iterdir():
            with contextlib.suppress(OSError):
                if not _is_of_a_folder(other.read_bytes()):
                    other.unlink()


def _mark(folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    return cache_folder() / CHECKED / name


def _content(folder: Path, fingerprint: str) -> bytes:
    return fingerprint.encode() + b"\n" + os.fsencode(folder.resolve())


def _is_of_a_folder(content: bytes) -> bool:
    """Whether a mark's folder is still there; without a path it is no mark."""
    path = content.partition(b"\n")[2]
    return bool(path) and os.path.isdir(path)  # noqa: PTH112 - bytes
