"""Where gpt2onnx keeps what it can make again. Knows folders, and nothing of what lies in them."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """The folder for what can be made again, such as prepacked weights. Asking doesn't create it.

    GPT2ONNX_CACHE if set, else XDG_CACHE_HOME/gpt2onnx, else the platform's own place: ~/.cache on
    Linux (https://specifications.freedesktop.org/basedir-spec), ~/Library/Caches on macOS,
    %LOCALAPPDATA% on Windows.
    """
    if own := os.environ.get("GPT2ONNX_CACHE"):
        return Path(own).expanduser()
    return _caches() / "gpt2onnx"


def _caches() -> Path:
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if Path(xdg).is_absolute():  # the specification has relative ones ignored
        return Path(xdg)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".cache"
