"""The machine that a record was measured on."""

from __future__ import annotations

import platform

from gpt2onnx.compare.measure import nvml
from gpt2onnx.compare.record.asked import Machine
from gpt2onnx.runtime.machine.processor import processor
from gpt2onnx.runtime.machine.threads import available_threads, default_threads
from gpt2onnx.runtime.ort.installation import require_onnxruntime


def machine() -> Machine:
    return Machine(
        processor=processor().model,
        system=f"{platform.system()} {platform.machine()}",
        logical_processors=available_threads(),
        default_threads=default_threads(),
        gpu=_gpu(),
        onnxruntime=str(require_onnxruntime()),
    )


def _gpu() -> str | None:
    try:
        return nvml.Device().name()
    except nvml.UnknownError:
        return None
