"""Errors as one line and an exit status. A bug gets neither: it keeps its traceback."""

from __future__ import annotations

import errno
from collections.abc import Callable

from gpt2onnx.cli.streams import FULL
from gpt2onnx.errors import Given, Gpt2OnnxError, one_line

# What the system says where it has no more of something, whichever file or process wanted it.
SPENT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
# The most characters of a message; names and values that somebody else chose may be longer.
LONGEST = 2000


def described(error: BaseException, naming: Callable[[Given], str] = str) -> tuple[str, int] | None:
    """Message and exit status; None for a bug. `naming` names the parameters in the message.

    What the system says of a file is told here where nobody else did, whatever the file was for.
    """
    if isinstance(error, Gpt2OnnxError):
        return shortened(error.told(naming)), error.exit_status
    if isinstance(error, MemoryError):
        return shortened(one_line(f"this machine has no memory left: {error}")), 1
    if isinstance(error, OSError) and error.errno is not None:
        place = _place(error)
        return None if place is None else (one_line(f"{place}: {error.strerror}"), 1)
    return None


def shortened(message: str) -> str:
    """A message, without the middle of one that nobody would read."""
    if len(message) <= LONGEST:
        return message
    return f"{message[: LONGEST // 2]} … {message[-LONGEST // 2 :]}"


def _place(error: OSError) -> str | None:
    """What the system speaks of; None for a library's own failure."""
    if error.filename is not None:
        name = error.filename
        return shortened(name.decode(errors="replace") if isinstance(name, bytes) else str(name))
    if error.errno in SPENT:
        return "this system"
    return "standard output" if error.errno in FULL else None
