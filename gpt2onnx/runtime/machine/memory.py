"""The machine's memory: its size, what is available, and giving freed memory back.

Knows operating systems; knows nothing of what memory is used for.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from gpt2onnx.runtime.machine.threads import ROOT, control_groups


def total_memory() -> int | None:
    """Bytes that the machine has; None where the system doesn't tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def available_memory(root: Path = ROOT) -> int | None:
    """Bytes that the process can still take; None where the system doesn't tell.

    What the kernel thinks can be had without swapping, or what the process's control groups leave,
    where that is less: files that are only cached give way. `root` is where /proc and /sys are
    looked for.

    https://docs.kernel.org/filesystems/proc.html#meminfo (MemAvailable)
    https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max, memory.stat)
    """
    machine = _figures(root / "proc/meminfo").get("MemAvailable:")
    left = [_left(group) for group in control_groups(root, "memory")]
    known = [*left, None if machine is None else machine << 10]  # which is told in KiB
    return min((size for size in known if size is not None), default=None)


def _left(group: Path) -> int | None:
    """Bytes that a control group leaves; None where it has no limit."""
    told = _figures(group / "memory.stat")
    limit, used, cached = _figure(group / "memory.max"), _figure(group / "memory.current"), "file"
    if limit is None:  # version 1, where no limit is a large one
        limit, cached = _figure(group / "memory.limit_in_bytes"), "total_cache"
        used = _figure(group / "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    return max(0, limit - used + told.get(cached, 0))


def _figure(file: Path) -> int | None:
    """The number that a small file holds, if it does."""
    text = _read(file)
    return int(text) if text.isdecimal() else None


def _figures(file: Path) -> dict[str, int]:
    """The numbers in a small file of lines "name number", by name."""
    lines = (line.split() for line in _read(file).splitlines())
    return {words[0]: int(words[1]) for words in lines if words[1:] and words[1].isdecimal()}


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def give_back_memory() -> None:
    """Give what is free back to the system, where the C library has a call for it (glibc).

    Parsing GPT-2's tokenizer and opening a session leave 26 MB of free memory in pieces that glibc
    would keep: https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
