"""The machine that was measured on. Reads /proc; knows no engine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from gpt2onnx.runtime.machine.processor import processor
from gpt2onnx.runtime.machine.threads import available_threads


def machine() -> dict[str, object]:
    """Processor, features that matter to integer and bfloat16 kernels, cores, memory, system."""
    cpu = processor()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": cpu.model,
        "features": sorted(name for name, there in cpu.features.items() if there),
        "cores": available_threads(),
        "memory_gb": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def load() -> float:
    """Processes that ran or wanted to, over the last minute: more than a few spoil the figures."""
    return float(Path("/proc/loadavg").read_text().split()[0])
