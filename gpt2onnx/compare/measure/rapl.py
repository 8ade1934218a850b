"""The energy of the processor packages, from the kernel's power capping counters.

They count the whole package, whoever uses it.
https://docs.kernel.org/power/powercap/powercap.html
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")
ZONE = re.compile(r"intel-rapl:\d+")  # those with a second number are parts of one
# By name: a laptop has its whole platform beside them, psys, in which they are counted as well.
PACKAGE = "package"


class Zone(NamedTuple):
    """A package's counter, and where it starts again from 0. Microjoules."""

    file: Path
    limit: int


def zones(root: Path = ROOT) -> list[Zone] | str:
    """The packages' counters; or the reason why there are none to be read."""
    place = root / "sys/class/powercap"
    try:
        folders = sorted(each for each in place.glob("intel-rapl:*") if _is_package(each))
        if not folders:
            return "the kernel gives no RAPL counters here"
        found = [Zone(f / "energy_uj", _number(f / "max_energy_range_uj")) for f in folders]
        for zone in found:
            _number(zone.file)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return found


def read(found: list[Zone]) -> list[int]:
    return [_number(zone.file) for zone in found]


def joules(found: list[Zone], before: list[int], after: list[int]) -> float:
    """What was used between two readings, each counter having started again at most once."""
    used = (
        end - start + (zone.limit if end < start else 0)
        for zone, start, end in zip(found, before, after, strict=True)
    )
    return sum(used) / 1e6


def _is_package(folder: Path) -> bool:
    return bool(ZONE.fullmatch(folder.name)) and (folder / "name").read_text().startswith(PACKAGE)


def _number(file: Path) -> int:
    return int(file.read_text())
