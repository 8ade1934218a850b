"""Reads what the stand-in recorded: events in parts. Knows the record's lines, as cuda.cpp's head
tells them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

CAPTURED = "captured "


class Event(NamedTuple):
    """One line: `bytes` of copies, memsets and allocations; the kernel's or the function's name."""

    kind: str
    bytes: int
    name: str

    def launched(self) -> Event:
        """What went into a graph as if it had gone to the device."""
        return self._replace(kind=self.kind.removeprefix(CAPTURED))


class Part(NamedTuple):
    """What was recorded between one mark and the next."""

    name: str
    events: list[Event]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def kernels(self) -> Counter[str]:
        """How often each kernel was launched, by its short name."""
        return Counter(short(event.name) for event in self.of("kernel"))


def parts(lines: Iterable[str]) -> list[Part]:
    """The parts of a record. Raises ValueError for a line that is none of a record's."""
    found = [Part("loading", [])]
    for line in lines:
        kind, amount, name = line.rstrip("\n").split("\t")
        if kind == "part":
            found.append(Part(name, []))
        else:
            found[-1].events.append(Event(kind, int(amount), name))
    return found


def short(kernel: str) -> str:
    """A kernel's name without what it returns and takes, and without ONNX Runtime's namespaces.

    `void onnxruntime::cuda::softmax<4, float>(float*, int)` is `softmax<4, float>`.
    """
    name = re.sub(r"\(anonymous namespace\)::|onnxruntime::(contrib::)?(cuda::)?", "", kernel)
    return _without_parameters(name).removeprefix("void ")


def _without_parameters(name: str) -> str:
    depth = 0  # a template's arguments may have parentheses of their own
    for position, letter in enumerate(name):
        if letter == "(" and not depth:
            return name[:position]
        depth += (letter == "<") - (letter == ">")
    return name
