"""The model folder and its manifest: written beside its place, then renamed into it.

Knows files; knows nothing of graphs and weights.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt2onnx.errors import OutputExistsError, StorageError
from gpt2onnx.export.checkpoint import Checkpoint

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOOLS = ("gpt2onnx", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "optimum-onnx", "torch")
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def staged(out: Path, force: bool) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and vanishes when not.

    Errors: OutputExistsError where `out` is there already; with `force` only where it is neither an
    empty folder nor one that has a manifest, and so not ours to delete. StorageError where the disk
    is full or not writable.
    """
    check_replaceable(out, force)
    stage: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        yield stage
        stage.chmod(0o755)
        _replace(out, stage)
    except OSError as error:
        if error.errno not in STORAGE_ERRORS:
            raise
        raise StorageError(
            f"{error.filename or out}: {error.strerror}; free some space or choose another place"
        ) from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)


def check_replaceable(out: Path, force: bool) -> None:
    """Raise OutputExistsError unless a folder may be written at `out`."""
    if not (out.exists() or out.is_symlink()):
        return
    if not out.is_dir() or out.is_symlink():
        raise OutputExistsError(f"{out}: is no folder; choose another place")
    if not any(out.iterdir()):
        return
    if not force:
        raise OutputExistsError(f"{out}: exists already; choose another place, or force (--force)")
    if not (out / MANIFEST).is_file():
        raise OutputExistsError(
            f"{out}: has no {MANIFEST}, so it is no model folder of gpt2onnx and is not replaced; "
            "delete it yourself or choose another place"
        )


def _replace(out: Path, stage: Path) -> None:
    """Put `stage` where `out` is. Between the two renames `out` is missing, never half there."""
    if not out.exists():
        stage.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
    out.rename(old / "folder")
    try:
        stage.rename(out)
    except OSError:
        (old / "folder").rename(out)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def write_settings(checkpoint: Checkpoint, folder: Path) -> None:
    """The checkpoint's own config.json and generation_config.json, and its tokenizer as one file."""
    write_json(folder / "config.json", checkpoint.config_json)
    if checkpoint.generation_config is not None:
        write_json(folder / "generation_config.json", checkpoint.generation_config)
    checkpoint.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


def write_manifest(folder: Path, description: Mapping[str, Any]) -> None:
    """manifest.json: `description`, and each file's size and sha256."""
    files = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": _sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = {
        "format_version": FORMAT_VERSION,
        **description,
        "files": files,
        "versions": {"python": platform.python_version(), **_versions()},
    }
    write_json(folder / MANIFEST, manifest)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    versions = {}
    for name in TOOLS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
