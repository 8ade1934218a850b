"""Standard input, output and error, also where they are closed or full."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TextIO

# What a stream that can't take any more says; an error about a file has the file's name.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def open_closed() -> None:
    """Put something in the place of standard streams that the caller has closed.

    Else the next file that is opened would become standard output. Reading and writing fail there
    as they do on a closed stream, but for messages, which go nowhere.
    """
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest free number
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def show_all_characters() -> None:
    """A terminal that lacks a character shows its number."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(message: str) -> None:
    """A line on standard error. That it can't be written there is no error."""
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody sits before it."""
    return stream is not None and not stream.closed and stream.isatty()


def flush() -> None:
    """Write what is still to be written on standard output. Raises OSError."""
    print(end="", flush=True)


def settle_output() -> None:
    """Write what is still to be written, or give it up."""
    try:
        flush()
    except OSError:
        discard_output()


def discard_output() -> None:
    """Keep Python from complaining at its end about what couldn't be written.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    _discard(sys.stdout)


def _discard(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):  # none of the system's, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
