"""ONNX Runtime itself, imported when it is first asked for.

The only file of the runtime that imports onnxruntime, and it does so inside a function, so that
importing gpt2onnx stays cheap. Others call `library.onnxruntime()`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any

from gpt2onnx.errors import InstallationError
from gpt2onnx.runtime.ort.installation import require_onnxruntime

# How much is logged, in ONNX Runtime's numbers; outside of sessions the last is its default.
LOG_FATAL, LOG_ERRORS, LOG_WARNINGS = 4, 3, 2


@cache
def onnxruntime() -> Any:
    """The module. Raises InstallationError where it is missing, or can't be imported."""
    package = require_onnxruntime()
    try:
        import onnxruntime as module
    except ImportError as error:  # a system library, or a module of another Python
        raise InstallationError(f"{package or 'onnxruntime'} can't be imported: {error}") from error
    return module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Meanwhile ONNX Runtime logs nothing by itself: for one who shows the errors that it raises.

    A session's own log is left as it is.
    """
    ort = onnxruntime()
    ort.set_default_logger_severity(LOG_FATAL)
    try:
        yield
    finally:
        ort.set_default_logger_severity(LOG_WARNINGS)
