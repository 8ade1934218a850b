"""The model folder and its manifest: written beside its place, then renamed into it.

Knows files; knows nothing of graphs and weights.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt2onnx.errors import OutputExistsError, StorageError
from gpt2onnx.export.checkpoint.chat_template import CHAT_TEMPLATE
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint
from gpt2onnx.staging import NEW, OLD, stage, sweep

FORMAT_VERSION = 1
MODEL, DATA, MANIFEST = "model.onnx", "model.onnx.data", "manifest.json"
README = "README.md"
KERNELS_MODEL, DRAFT_MODEL = "model.kernels.onnx", "model.draft.onnx"
TOOLS = (
    "gpt2onnx",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "optimum-onnx",
    "torch",
    "transformers",
)


@contextmanager
def staged(out: Path, force: bool | None) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and vanishes when not.

    What a killed process has left there of the same `out` is removed.

    Folders above `out` are made where they are missing.

    Raises OutputExistsError as `check_replaceable`'s, StorageError where the disk is full or not
    writable.
    """
    with _storage_errors(out):
        sweep(out)  # first: a process that was killed may have held the model that was there
        check_replaceable(out, force)
        out.parent.mkdir(parents=True, exist_ok=True)
        with stage(out) as temporary:
            new = temporary / NEW
            new.mkdir()
            yield new
            check_replaceable(out, force)  # somebody else may have written there meanwhile
            _replace(out, new, temporary / OLD, force)


def check_replaceable(out: Path, force: bool | None) -> None:
    """See that a folder may be written at `out`: where nothing is, or in an empty folder's place.

    With `force` in a model folder's place, too, but in nothing else's, which isn't ours to delete.
    None where the caller has no such choice.

    Raises OutputExistsError, StorageError.
    """
    with _storage_errors(out):
        there = out.is_symlink() or out.exists()
        if obstacle := _why_not_replace(out, force) if there else _why_not_make(out):
            raise OutputExistsError(f"{out}: {obstacle}; choose another place", path=out)


def _why_not_make(out: Path) -> str:
    """Why no folder can be made at `out`, where nothing is; empty where one can."""
    above = next(parent for parent in out.absolute().parents if parent.exists())
    return "" if above.is_dir() else f"{above} is no folder"


def _why_not_replace(out: Path, force: bool | None) -> str:
    """Why what is at `out` may not be replaced; empty where it may."""
    if out.is_symlink() or not out.is_dir():
        return "is no folder"
    if Path.cwd().is_relative_to(out.resolve()):
        return "is the current folder or above it, and would be gone"
    if out.is_mount():
        return "is a mount point, which can't be replaced"
    if not any(out.iterdir()):
        return ""
    if force is None:
        return "exists already"
    if not force:
        return "exists already; force (--force) replaces a model folder"
    graphs = [*out.glob("*.onnx"), *out.glob("onnx/*.onnx")]
    if not graphs or not (out / MANIFEST).is_file():
        return f"holds no {MANIFEST} and {MODEL}, so it is no model folder and is not replaced"
    return ""


@contextmanager
def _storage_errors(out: Path) -> Iterator[None]:
    """The system's complaints about a disk as StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a library's own, not the system's
            raise
        path = error.filename or out
        advice = "free some space or choose another place"
        raise StorageError(f"{path}: {error.strerror}; {advice}", path=path) from error


def _replace(out: Path, new: Path, old: Path, force: bool | None) -> None:
    """Put `new` where `out` is. Between the two renames `out` is missing, never half there.

    Raises OutputExistsError where another process has written there since it was looked at.
    """
    try:
        if force and out.exists() and any(out.iterdir()):
            out.rename(old)
        new.rename(out)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise OutputExistsError(
            f"{out}: another process has just written there", path=out
        ) from error
    finally:
        if old.exists() and not out.exists():
            old.rename(out)


def write_settings(
    checkpoint: Checkpoint, generation_config: Mapping[str, Any] | None, folder: Path
) -> None:
    """The checkpoint's own config.json, its tokenizer, and generation_config.json unless None.

    With a chat template, that and, in tokenizer_config.json, the special tokens that it may name.
    """
    write_json(folder / "config.json", checkpoint.config_json)
    if generation_config is not None:
        write_json(folder / "generation_config.json", generation_config)
    # Tokenizer.save() would tell of a full disk by a plain Exception.
    (folder / "tokenizer.json").write_text(checkpoint.tokenizer.to_str(), encoding="utf-8")
    if chat := checkpoint.chat_template:
        with (folder / CHAT_TEMPLATE).open("w", encoding="utf-8", newline="") as file:
            file.write(chat.text)
        named = {"tokenizer_class": "PreTrainedTokenizerFast", **chat.tokens}
        write_json(folder / "tokenizer_config.json", named)


def write_manifest(folder: Path, description: Mapping[str, Any]) -> None:
    """manifest.json, the last file to be written: `description`, and what the others hold."""
    files = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": _sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != README  # which its owner may write anew
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
