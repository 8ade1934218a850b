"""Opens a job's model, without the model's own generation defaults."""

from __future__ import annotations

from gpt2onnx.compare.measure.job import Job
from gpt2onnx.runtime.model import Model, load
from gpt2onnx.runtime.ort.provider import find_provider


def open_model(job: Job) -> Model:
    """Greedy, without penalties or an end: whatever generation_config.json has is set aside."""
    model = load(job.folder, job.provider, provider_options(job), job.threads, graph=job.graph)
    model.defaults = {}
    return model


def provider_options(job: Job) -> dict[str, str]:
    """TF32 and graphs of runs where the provider has them, off unless asked for."""
    return find_provider(job.provider).tuning(job.tf32, job.cuda_graph)
