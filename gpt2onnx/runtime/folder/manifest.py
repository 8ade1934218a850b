"""A model folder's manifest: which files there are, how large, and with which checksums.

It says nothing of files elsewhere, and its figures are bounded before a byte of them is read. Knows
files; knows nothing of what is in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from gpt2onnx.errors import CorruptModelError, ModelFolderError, shown
from gpt2onnx.files import read_json, require_regular
from gpt2onnx.runtime.machine.memory import total_memory

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
# Files that their owner may edit: they say how the model is used, and not what it is.
SETTINGS = ("generation_config.json", "chat_template.jinja", "tokenizer_config.json")
# Files that are larger than so many times the machine's memory aren't read to be checked: a graph
# whose weights don't fit can't run, wherever it runs.
TIMES_MEMORY = 4


def read_manifest(path: Path) -> Mapping[str, Any] | None:
    """The manifest of a folder, whose files are all there and as large as it says; None without.

    Raises ModelFolderError for a later version's, CorruptModelError for a damaged one, and where a
    file is missing or has another size.
    """
    if not (path / MANIFEST).exists():
        return None
    manifest = read_json(path / MANIFEST, CorruptModelError)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelFolderError(
            f"{path / MANIFEST}: format version {version!r}, this gpt2onnx reads {FORMAT_VERSION}; "
            "export the model again, or install the gpt2onnx that wrote it",
            path=path / MANIFEST,
            name="format_version",
        )
    files = _listed_files(path / MANIFEST, manifest)
    for name, entry in files.items():
        file = path / name
        if not file.exists():
            raise CorruptModelError(
                f"{file}: missing, though the manifest lists it; export again", path=file
            )
        require_regular(file, CorruptModelError)
        if name not in SETTINGS and file.stat().st_size != entry["size"]:
            raise CorruptModelError(
                f"{file}: {file.stat().st_size} bytes, the manifest says {entry['size']}: "
                "truncated or changed; copy or export the model again",
                path=file,
                found=file.stat().st_size,
                expected=entry["size"],
            )
    _require_possible_size(path, sum(entry["size"] for entry in files.values()))
    return manifest


def _listed_files(path: Path, manifest: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Size and sha256 of each file of the folder.

    Raises CorruptModelError where the manifest lacks them, or names files elsewhere.
    """
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(map(_is_listing, files.values())):
        raise CorruptModelError(
            f'{path}: expected "files" with the size and sha256 of each; export the model again',
            path=path,
            name="files",
        )
    if elsewhere := [name for name in files if not _is_inside(name)]:
        raise CorruptModelError(
            f"{path}: lists {shown(elsewhere[0])}, expected files of its own folder; export the "
            "model again",
            path=path,
        )
    return files


def _is_listing(entry: object) -> bool:
    """Whether this is what a manifest says of a file."""
    if not isinstance(entry, dict):
        return False
    size, digest = entry.get("size"), entry.get("sha256")
    is_size = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63
    return is_size and isinstance(digest, str) and bool(re.fullmatch("[0-9a-f]{64}", digest))


def _is_inside(name: str) -> bool:
    """Whether a name is that of a file in a folder, or in a folder of it."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not {"/", "//", ".."}.intersection(parts) and "\0" not in name


def _require_possible_size(path: Path, size: int) -> None:
    memory = total_memory()
    if memory is not None and size > TIMES_MEMORY * memory:
        raise ModelFolderError(
            f"{path}: {size / 1e9:,.0f} GB, more than {TIMES_MEMORY} times the "
            f"{memory / 1e9:.0f} GB of this machine's memory: expected a model that can run here",
            path=path,
        )
