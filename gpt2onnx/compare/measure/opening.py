"""Opens a job's model, without the model's own generation defaults."""

from __future__ import annotations

from gpt2onnx.compare.measure.job import Job
from gpt2onnx.runtime.model import Model, load


def open_model(job: Job) -> Model:
    """Greedy, without penalties or an end: whatever generation_config.json has is set aside."""
    model = load(job.folder, job.provider, provider_options(job), job.threads)
    model.defaults = {}
    return model


def provider_options(job: Job) -> dict[str, str]:
    """TF32 and CUDA graphs are CUDA's alone, and off unless asked for."""
    if job.provider != "cuda":
        return {}
    return {"use_tf32": str(int(job.tf32)), "enable_cuda_graph": str(int(job.cuda_graph))}
