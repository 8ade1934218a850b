"""Shards: the input in parts of whole lines, small enough to be held and to be shared out.

They follow from the input alone, so that a job that goes on has the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import NamedTuple

BLOCK = 2**20
# A shard's bytes: so many parts of the input, within bounds. The last line goes in whole.
PARTS = 256
SMALLEST, LARGEST = 16 * 2**10, 2**20


class Shard(NamedTuple):
    """The lines from `start` to `end` of one of the input's files, and the first one's number."""

    number: int
    file: int
    start: int
    end: int
    first: int
    lines: int


class _Cut(NamedTuple):
    start: int
    end: int
    lines: int


def plan(files: Sequence[BufferedReader], sizes: Sequence[int]) -> list[Shard]:
    """The shards of files, which are read once, block by block."""
    target = min(max(sum(sizes) // PARTS, SMALLEST), LARGEST)
    shards: list[Shard] = []
    first = 1
    for number, file in enumerate(files):
        for cut in _cuts(file, target):
            shards.append(Shard(len(shards), number, cut.start, cut.end, first, cut.lines))
            first += cut.lines
    return shards


def _cuts(file: BufferedReader, target: int) -> Iterator[_Cut]:
    """Places behind the first line break that is at least `target` bytes after the last place."""
    start, lines, place, last = 0, 0, 0, b"\n"
    while block := file.read(BLOCK):
        begin = 0
        while (found := block.find(b"\n", max(begin, start + target - 1 - place))) >= 0:
            lines += block.count(b"\n", begin, found + 1)
            yield _Cut(start, place + found + 1, lines)
            begin, lines, start = found + 1, 0, place + found + 1
        lines += block.count(b"\n", begin)
        place += len(block)
        last = block[-1:]
    if place > start:
        yield _Cut(start, place, lines + (last != b"\n"))
