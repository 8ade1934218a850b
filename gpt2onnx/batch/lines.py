"""Lines of a file, by a range of its bytes: a part of a file is read as a stream, and bounded.

Knows files; knows nothing of what a line says.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from typing import NamedTuple

# The most bytes of a line: as many as the server takes as a body.
LONGEST = 4 * 2**20


class Line(NamedTuple):
    """A line by its number in all of the input, from 1; of one that is too long there is none."""

    number: int
    content: bytes | None


def read_lines(file: BufferedReader, start: int, end: int, first: int) -> Iterator[Line]:
    """The lines between two places, the first of which has the number `first`."""
    file.seek(start)
    place, number = start, first
    while place < end:
        content = file.readline(LONGEST + 1)
        if not content:
            return
        place += len(content)
        if len(content) <= LONGEST or content.endswith(b"\n"):
            yield Line(number, content.rstrip(b"\r\n"))
        else:
            place += _skip(file)
            yield Line(number, None)
        number += 1


def _skip(file: BufferedReader) -> int:
    """Pass over the rest of a line; gives its bytes."""
    skipped = 0
    while piece := file.readline(LONGEST):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped
