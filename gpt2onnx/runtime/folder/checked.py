"""Model folders whose checksums were verified: a mark for each in the user's cache folder.

A mark also keeps a number that was found then, the largest token id of the folder's tokenizer.
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


def recall(folder: Path, fingerprint: str) -> int | None:
    """What was remembered of the folder with that fingerprint; None where nothing can be read."""
    with contextlib.suppress(OSError, StorageError, ValueError):
        known, value, path = _mark(folder).read_bytes().split(b"\n", 2)
        if (known, path) == (fingerprint.encode(), os.fsencode(folder.resolve())):
            return int(value)
    return None


def remember(folder: Path, fingerprint: str, value: int) -> None:
    """Remember a folder, as far as the cache can be written to, and forget those that are gone."""
    with contextlib.suppress(OSError, StorageError):
        mark = _mark(folder)
        mark.parent.mkdir(parents=True, exist_ok=True)
        path = os.fsencode(folder.resolve())
        mark.write_bytes(b"%s\n%d\n%s" % (fingerprint.encode(), value, path))
        for other in mark.parent.iterdir():
            with contextlib.suppress(OSError):
                if not _is_of_a_folder(other.read_bytes()):
                    other.unlink()


def _mark(folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    return cache_folder() / CHECKED / name


def _is_of_a_folder(content: bytes) -> bool:
    """Whether a mark's folder is still there; without a path it is no mark."""
    path = b"\n".join(content.split(b"\n", 2)[2:])
    return bool(path) and os.path.isdir(path)  # noqa: PTH112 - bytes
