"""The kinds of jobs that a measuring process can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gpt2onnx.compare.measure import answers, placement, speed
from gpt2onnx.compare.measure.job import Job, Kind, Reason
from gpt2onnx.errors import Gpt2OnnxError

JOBS: Mapping[Kind, Callable[[Job], Any]] = {
    "reference": answers.reference,
    "answers": answers.candidate,
    "placement": placement.measure,
    "speed": speed.measure,
}


def answer(job: Job) -> Any:
    """Do a job in this process: what it gives, or a Reason."""
    try:
        return JOBS[job.kind](job)
    except Gpt2OnnxError as error:
        return Reason(str(error))
