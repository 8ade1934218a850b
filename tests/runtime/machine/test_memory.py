"""Fake /proc and /sys folders, laid out as the kernel's documentation has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt2onnx.runtime.machine.memory import available_memory, total_memory
from tests.runtime.machine.test_threads import V1, V2, write

MACHINE = {"proc/meminfo": "MemTotal:  2000 kB\nMemFree: 10 kB\nMemAvailable:  1000 kB\nHuge: 0"}
GROUP = "sys/fs/cgroup/user.slice/job/memory."


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (MACHINE, 1_024_000),
        (V2 | MACHINE | {GROUP + "max": "max", GROUP + "current": "5"}, 1_024_000),
        (V2 | MACHINE | {GROUP + "max": "9000", GROUP + "current": "8000"}, 1000),
        # What is only cached gives way.
        (
            V2
            | MACHINE
            | {
                GROUP + "max": "9000",
                GROUP + "current": "8000",
                GROUP + "stat": "anon 7000\nfile 500",
            },
            1500,
        ),
        # A group above has less left; one that is used up has nothing.
        (
            V2
            | {
                GROUP + "max": "9000",
                GROUP + "current": "10",
                "sys/fs/cgroup/user.slice/memory.max": "9000",
                "sys/fs/cgroup/user.slice/memory.current": "9001",
            },
            0,
        ),
        # Version 1, whose groups without a limit have a large one.
        (
            V1
            | {
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "9000",
                "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": "8000",
                "sys/fs/cgroup/memory/docker/abc/memory.stat": "cache 1\ntotal_cache 50",
            },
            1050,
        ),
        (
            V1
            | MACHINE
            | {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "8000",
            },
            1_024_000,
        ),
    ],
)
def test_what_is_available(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    assert available_memory(write(tmp_path, files)) == expected


def test_this_machine_has_some() -> None:
    total, available = total_memory(), available_memory()
    assert total is None or total > 1 << 28
    assert available is None or available > 0
