"""Temporary folders that are always removed: after an error, and after a kill.

A stage lies beside its target, so that what is written there can be renamed into place. It is
removed when its block ends. What a killed process leaves is removed by the next process that
stages the same target, and only that: a lock in the stage dies with its process, survives a process
number that is given again, and is seen from other containers. Knows folders; knows nothing of what
is written into them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing tells the dead from the living, and nothing is swept
    fcntl = None  # type: ignore[assignment]

# In a stage: what replaces the target, the target that gives way, and the lock of the process.
NEW, OLD, LOCK = "new", "old", "lock"
_STAGE = re.compile(r"\.(.+)\.gpt2onnx-[0-9a-f]{16}", re.DOTALL)
# The most bytes of a target's name in its stage's, which has 28 more; a file's name has 255.
_NAME = 200

_open: set[Path] = set()


@contextmanager
def stage(target: Path) -> Iterator[Path]:
    """A new, private folder beside `target`, gone when the block ends. Raises OSError."""
    sweep(target)
    while True:
        path = target.with_name(f".{_short(target.name)}.gpt2onnx-{os.urandom(8).hex()}")
        lock: list[int] = []
        _open.add(path)
        try:
            if _make(path, lock):
                yield path
                return
        finally:  # an interrupt may come between any two steps of making it
            _end(path, target, lock)


def work_folder(name: str) -> contextlib.AbstractContextManager[Path]:
    """A stage in the system's folder for temporary files. Raises OSError."""
    import tempfile  # few stages are made there

    return stage(Path(tempfile.gettempdir(), f"gpt2onnx-{name}"))


def remove_open() -> None:
    """Remove the stages of this process, which is about to end at once."""
    for path in list(_open):
        with contextlib.suppress(OSError):
            _remove(path)
        _open.discard(path)


def is_stage(path: Path) -> bool:
    """Whether a folder has a stage's name, whatever it is for."""
    return _STAGE.fullmatch(path.name) is not None


def sweep(target: Path) -> None:
    """Remove the stages of `target` whose process is dead, as far as the system allows it.

    What such a process had moved out of its place goes back there, where nothing took the place.
    """
    with contextlib.suppress(OSError):
        for path in list(target.parent.iterdir()):
            found = _STAGE.fullmatch(path.name)
            if found and found[1] == _short(target.name):
                with contextlib.suppress(OSError):
                    _sweep_one(path, target)


def _sweep_one(path: Path, target: Path) -> None:
    if path.is_symlink() or not path.is_dir() or not _is_ours(path):
        return
    try:
        lock = os.open(path / LOCK, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        path.rmdir()  # its process ended between two steps; one that lives makes another
        return
    try:
        if not _lock(lock):
            return
        if (path / OLD).exists() and not (target.is_symlink() or target.exists()):
            (path / OLD).rename(target)
        _remove(path)
    finally:
        os.close(lock)


def _make(path: Path, lock: list[int]) -> bool:
    """Make a stage and hold its lock; False where another process has swept it before it was held.

    The lock's descriptor goes into `lock` at once, to be closed whatever happens.
    """
    path.mkdir(mode=0o700)
    try:
        lock.append(os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if _lock(lock[0]) is False:
            return False
        return os.path.samestat(os.fstat(lock[0]), (path / LOCK).stat())
    except FileNotFoundError:
        return False


def _end(path: Path, target: Path, lock: list[int]) -> None:
    """Remove a stage; the lock is let go last, so that whoever sees it sees a living process."""
    with contextlib.suppress(OSError):
        if lock:
            _remove(path)
        else:
            _sweep_one(path, target)
    for descriptor in lock:
        os.close(descriptor)
    _open.discard(path)


def _lock(descriptor: int) -> bool | None:
    """Take a lock; False where another process has it, None where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (AttributeError, OSError):
        return None
    return True


def _remove(path: Path) -> None:
    """Remove a stage, its lock last: what is left half removed is known for a dead one's."""
    for each in list(path.iterdir()):
        if each.name == LOCK:
            continue
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                each.unlink()
    with contextlib.suppress(OSError):
        (path / LOCK).unlink()
        path.rmdir()


def _is_ours(path: Path) -> bool:
    return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()


def _short(name: str) -> str:
    """A target's name as its stages have it: of a long one the beginning and a digest."""
    encoded = os.fsencode(name)
    if len(encoded) <= _NAME:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return f"{encoded[: _NAME - 20].decode(errors='ignore')}-{digest}"
