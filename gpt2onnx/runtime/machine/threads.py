"""How many processors this process may really use: affinity, CPU limit, physical cores.

ONNX Runtime's own thread pool sees the affinity but no container's limit (onnxruntime#29510), and
threads beyond the limit are throttled, all of them at once. Knows operating systems, and nothing of
ONNX Runtime.
"""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def default_threads(root: Path = ROOT) -> int:
    """Threads for a matrix product: one a physical core, as far as the process may use them.

    Two hyperthreads of one core share its multipliers and its caches, so that a second one only
    adds waiting at every barrier. ONNX Runtime's own default counts cores as well.
    """
    return min(available_threads(root), physical_cores(root))


def available_threads(root: Path = ROOT) -> int:
    """Logical processors that the process may use: its affinity, cut to its CPU limit. At least 1.

    `root` is where /proc and /sys are looked for.
    """
    limit = cpu_limit(root)
    allowed = len(affinity())
    return allowed if limit is None else max(1, min(allowed, math.ceil(limit)))


def affinity() -> set[int]:
    """Numbers of the logical processors that the scheduler may give to this process."""
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # macOS and Windows have no such call
        return set(range(os.cpu_count() or 1))


def physical_cores(root: Path = ROOT) -> int:
    """Cores behind the processors of `affinity()`: hyperthreads of one core count once.

    A processor whose siblings the system doesn't tell counts as a core of its own.
    """
    cpus = root / "sys/devices/system/cpu"
    siblings = (
        _read(cpus / f"cpu{number}" / "topology/thread_siblings_list") or str(number)
        for number in affinity()
    )
    return len(set(siblings))


def cpu_limit(root: Path = ROOT) -> float | None:
    """Processors' worth of time that control groups grant, such as 1.5; None without a limit.

    The narrowest limit between the process's own group and the top counts:
    https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max) and, for version 1,
    https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us).
    """
    limits = [
        limit
        for folder in control_groups(root, "cpu")
        if (limit := _limit_v2(folder) or _limit_v1(folder)) is not None
    ]
    return min(limits, default=None)


def control_groups(root: Path, controller: str) -> list[Path]:
    """The process's control groups, those of version 1 for a controller ("cpu", "memory")."""
    return [
        folder
        for line in _read(root / "proc/self/cgroup").splitlines()
        for folder in _groups(line, root / "sys/fs/cgroup", controller)
    ]


def _groups(line: str, mount: Path, controller: str) -> list[Path]:
    """Folders of one line of /proc/self/cgroup, "hierarchy:controllers:path", from the top down.

    A container sees its own group as the top of the mount while the path may be the host's; folders
    that don't exist here read as no limit, so walking all of them is right in both cases.
    """
    _, controllers, path = line.split(":", 2)
    if controllers and controller not in controllers.split(","):
        return []
    # ".." stands for a group above the container's own, which it can't see.
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    tops = [mount / controllers, mount / controller] if controllers else [mount, mount / "unified"]
    return [top.joinpath(*parts[:depth]) for top in tops for depth in range(len(parts) + 1)]


def _limit_v2(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdecimal() else None


def _limit_v1(folder: Path) -> float | None:
    quota = _read(folder / "cpu.cfs_quota_us")  # -1 without a limit
    return int(quota) / int(_read(folder / "cpu.cfs_period_us")) if quota.isdecimal() else None


def _read(path: Path) -> str:
    """A small file's text, stripped; "" where there is none, or none that we may read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
