"""The memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Held(NamedTuple):
    """Resident memory, and the part of it that is no mapped file; None where nothing tells."""

    resident_bytes: int | None
    anonymous_bytes: int | None


def held(status: Path = Path("/proc/self/status")) -> Held:
    lines = status.read_text().splitlines() if status.is_file() else []
    known = dict(line.split(":", 1) for line in lines)
    return Held(_bytes(known.get("VmRSS")), _bytes(known.get("RssAnon")))


def _bytes(kilobytes: str | None) -> int | None:
    return None if kilobytes is None else int(kilobytes.split()[0]) * 1024
