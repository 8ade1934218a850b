"""The machine that a record is of."""

from __future__ import annotations

import platform
from typing import Any

from gpt2onnx.compare.measure import nvml
from gpt2onnx.runtime.machine.processor import processor
from gpt2onnx.runtime.machine.threads import available_threads, default_threads
from gpt2onnx.runtime.ort.installation import require_onnxruntime


def machine() -> dict[str, Any]:
    """What figures depend on: two records of one machine have the same."""
    return {
        "processor": processor().model,
        "system": f"{platform.system()} {platform.machine()}",
        "logical_processors": available_threads(),
        "default_threads": default_threads(),
        "gpu": _gpu(),
        "onnxruntime": str(require_onnxruntime()),
    }


def _gpu() -> str | None:
    try:
        return nvml.Device().name()
    except nvml.UnknownError:
        return None
