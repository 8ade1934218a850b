"""The memory that this process holds now, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

FIELDS = {"resident_bytes": "VmRSS", "anonymous_bytes": "RssAnon"}


def held(status: Path = Path("/proc/self/status")) -> dict[str, int | None]:
    """Resident memory, and the part of it that is no mapped file; None where nothing tells."""
    lines = status.read_text().splitlines() if status.is_file() else []
    known = dict(line.split(":", 1) for line in lines)
    return {
        name: int(known[field].split()[0]) * 1024 if field in known else None
        for name, field in FIELDS.items()
    }
