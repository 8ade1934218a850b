"""An output file that is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from gpt2onnx.errors import Advised, Given, ParameterError, Plain, StorageError
from gpt2onnx.files import as_path, path_errors
from gpt2onnx.staging import NEW, stage


class WholeFile:
    """A file to be written at the end. One that exists is replaced, as `>` does.

    Raises at once: ParameterError where no file can be written there. `option` is its parameter.
    """

    def __init__(self, option: str, path: str) -> None:
        named = as_path(path, option, ParameterError)
        with path_errors(
            named, ParameterError, "choose another file for ", Advised(option, Plain("FILE"))
        ):
            self._path = Path(os.path.realpath(named))  # a link stays one
            problem = _problem(self._path)
        if problem:
            raise ParameterError(Given(option, Plain(path)), f": {problem}")

    def write(self, content: str) -> None:
        """Replace the file in one step, so that nobody ever sees a part.

        What was there keeps its permissions. Raises StorageError.
        """
        try:
            with stage(self._path) as folder:
                part = folder / NEW
                part.write_text(content, encoding="utf-8", errors="backslashreplace", newline="\n")
                with contextlib.suppress(FileNotFoundError):
                    part.chmod(stat.S_IMODE(self._path.stat().st_mode))
                part.replace(self._path)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}", path=self._path) from error


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
