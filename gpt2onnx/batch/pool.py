"""Where a job's workers run, and how many there are."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import gpt2onnx.batch.answering  # noqa: F401 - whose packages must be here
from gpt2onnx.batch.processes import Processes
from gpt2onnx.batch.spec import WorkerSpec
from gpt2onnx.batch.supervisor import Pool
from gpt2onnx.errors import Given, InstallationError
from gpt2onnx.runtime.machine.threads import default_threads
from gpt2onnx.runtime.ort.provider import export_device
from gpt2onnx.samplers.params.values import integer


def open_pool(spec: WorkerSpec, workers: int | None, ray: str | None, lock: int) -> Pool:
    """Workers for a job. Raises ParameterError, and what starting them raises."""
    if workers is not None:
        integer(1, "an integer of at least 1")("workers", workers)
    threads = spec.load_options["threads"]
    if ray is not None:
        if find_spec("ray") is None:
            raise InstallationError(
                *(
                    Given("ray", ray),
                    " needs a package that is missing: pip install 'gpt2onnx[ray]'",
                )
            )
        from gpt2onnx.batch.ray_pool import RayPool

        return RayPool(ray, workers, spec)
    cores = default_threads()
    if workers is None:
        on_cpu = export_device(spec.load_options["provider"]) == "cpu"
        workers = max(1, cores // (threads or 1)) if on_cpu else 1
    options = {**spec.load_options, "threads": threads or max(1, cores // workers)}
    return Processes(workers, replace(spec, load_options=options, neighbours=workers), lock)
