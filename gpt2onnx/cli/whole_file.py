"""A file that a command writes: the whole of it, or what was there before."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from gpt2onnx.errors import ParameterError, StorageError


class WholeFile:
    """A file to be written at the end. One that exists is replaced, as `>` does.

    Errors, at once: ParameterError where no file can be written there. `option` is its parameter.
    """

    def __init__(self, option: str, path: str) -> None:
        self._path = Path(os.path.realpath(path))  # a link stays one
        if problem := _problem(self._path):
            raise ParameterError(f"{option}={path}: {problem}")

    def write(self, content: str) -> None:
        """Replace the file in one step, so that nobody ever sees a part. Errors: StorageError."""
        try:
            with tempfile.TemporaryDirectory(prefix=".gpt2onnx-", dir=self._path.parent) as folder:
                part = Path(folder, self._path.name)
                part.write_text(content, encoding="utf-8", newline="\n")
                part.replace(self._path)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}") from error


def _problem(path: Path) -> str | None:
    if path.is_dir():
        return "expected a file, this is a folder"
    if path.exists() and not path.is_file():
        return "expected a file, or a name that is free; this is a device or a pipe"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; create it first"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"the folder {path.parent} can't be written to"
    return None
