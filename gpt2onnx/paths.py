"""gpt2onnx's cache folders. Knows folders, and nothing of what is in them.

A process may have no such place: a container's bare uid has no home. What only saves time is done
without then; what needs the place says so, in the words of the error that is raised here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gpt2onnx.errors import StorageError


def cache_folder() -> Path:
    """The folder for what can be made again, such as prepacked weights. Asking doesn't create it.

    GPT2ONNX_CACHE if set, else XDG_CACHE_HOME/gpt2onnx, else the platform's own place: ~/.cache on
    Linux (https://specifications.freedesktop.org/basedir-spec), ~/Library/Caches on macOS,
    %LOCALAPPDATA% on Windows.

    Raises StorageError where that is in a home folder, and there is none.
    """
    own = os.environ.get("GPT2ONNX_CACHE")
    try:
        return Path(own).expanduser() if own else _caches() / "gpt2onnx"
    except RuntimeError as error:  # pathlib's own, of a user without a home
        place = f"GPT2ONNX_CACHE={own}" if own else "the cache folder"
        raise StorageError(
            f"{place}: no such user's home is known; set GPT2ONNX_CACHE to a folder that can be "
            "written",
            name="GPT2ONNX_CACHE",
        ) from error


def _caches() -> Path:
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if Path(xdg).is_absolute():  # the specification has relative ones ignored
        return Path(xdg)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".cache"
