"""A job of a comparison, of which a test says what matters to it."""

from __future__ import annotations

import tempfile
from typing import Any

from gpt2onnx.compare.measure.job import Job, Kind


def a_job(kind: Kind = "speed", **given: Any) -> Job:
    usual: dict[str, Any] = {
        "folder": "none",
        "provider": "cpu",
        "threads": 1,
        "tf32": False,
        "cuda_graph": False,
        "new_tokens": 5,
        "prompts": ["hello"],
        "work": tempfile.gettempdir(),
    }
    return Job(kind=kind, **{**usual, **given})
