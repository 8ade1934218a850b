"""Fake /proc and /sys folders, laid out as the kernel's documentation has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpt2onnx.runtime.machine import threads


@pytest.fixture
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "affinity", lambda: set(range(8)))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V2 = {"proc/self/cgroup": "0::/user.slice/job"}
V1 = {"proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/"}


@pytest.mark.parametrize(
    ("files", "limit", "available"),
    [
        ({}, None, 8),
        (V2, None, 8),
        (V2 | {"sys/fs/cgroup/user.slice/job/cpu.max": "max 100000"}, None, 8),
        (V2 | {"sys/fs/cgroup/user.slice/job/cpu.max": "150000 100000"}, 1.5, 2),
        (V2 | {"sys/fs/cgroup/user.slice/job/cpu.max": "10000 100000"}, 0.1, 1),
        (V2 | {"sys/fs/cgroup/user.slice/job/cpu.max": "9900000 100000"}, 99, 8),
        # A limit above the process's own group holds as well: the narrowest counts.
        (V2 | {"sys/fs/cgroup/user.slice/cpu.max": "300000 100000"}, 3, 3),
        (
            V2
            | {
                "sys/fs/cgroup/user.slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/user.slice/job/cpu.max": "400000 100000",
            },
            2,
            2,
        ),
        # A container sees its own group at the top, under "/" or under the host's name for it.
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 25000"}, 2, 2),
        ({"proc/self/cgroup": "0::/../../x", "sys/fs/cgroup/cpu.max": "50000 25000"}, 2, 2),
        (V2 | {"sys/fs/cgroup/cpu.max": "400000 100000"}, 4, 4),
        # Version 1, seen from the host, from a container, and without a limit.
        (
            V1
            | {
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
            },
            2.5,
            3,
        ),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000",
            },
            2,
            2,
        ),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
            8,
        ),
        # Version 2 beside version 1, which has the cpu controller elsewhere.
        (V1 | {"sys/fs/cgroup/unified/cpu.max": "600000 100000"}, 6, 6),
        # Another controller's group says nothing of processors.
        ({"proc/self/cgroup": "4:memory:/m", "sys/fs/cgroup/m/cpu.max": "1 1"}, None, 8),
    ],
)
@pytest.mark.usefixtures("eight_processors")
def test_a_cpu_limit_counts(
    tmp_path: Path, files: dict[str, str], limit: float | None, available: int
) -> None:
    root = write(tmp_path, files)
    assert threads.cpu_limit(root) == limit
    assert threads.available_threads(root) == available


@pytest.mark.usefixtures("eight_processors")
def test_hyperthreads_of_a_core_count_once(tmp_path: Path) -> None:
    siblings = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    write(tmp_path, {siblings.format(n): f"{n % 4},{n % 4 + 4}" for n in range(8)})
    assert threads.physical_cores(tmp_path) == 4
    assert threads.available_threads(tmp_path) == 8
    assert threads.default_threads(tmp_path) == 4


@pytest.mark.usefixtures("eight_processors")
def test_the_default_keeps_to_the_narrower_of_cores_and_limit(tmp_path: Path) -> None:
    write(tmp_path, V2 | {"sys/fs/cgroup/cpu.max": "200000 100000"})
    assert threads.physical_cores(tmp_path) == 8  # unknown topology: every processor a core
    assert threads.default_threads(tmp_path) == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_is_the_process_own() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert threads.available_threads() == threads.default_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_without_affinity_every_processor_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.affinity() == set(range(6))
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.affinity() == {0}
