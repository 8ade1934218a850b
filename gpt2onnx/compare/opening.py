"""A job's model, opened as the job says, with nothing of its own about how to write."""

from __future__ import annotations

from gpt2onnx.compare.job import Job
from gpt2onnx.runtime.model import Model, load


def open_model(job: Job) -> Model:
    """Greedy, without penalties or an end: whatever generation_config.json has is set aside."""
    model = load(job["folder"], job["provider"], provider_options(job), job["threads"])
    model.defaults = {}
    return model


def provider_options(job: Job) -> dict[str, str]:
    """TF32 is CUDA's alone, and off unless asked for."""
    return {"use_tf32": "1"} if job["tf32"] and job["provider"] == "cuda" else {}
