"""What a worker is told once: its model, how much of the machine it may take, the job's terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Of prompts' beginnings, for each worker.
PREFIX_CACHE = "256M"


@dataclass(frozen=True)
class WorkerSpec:
    """Plain values: it goes to other processes and machines."""

    folder: str
    parameters: Mapping[str, Any]
    form: str  # of the lines: json or text
    created: int
    name: str  # the model's, in bodies and answers
    identity: Mapping[str, Any] = field(default_factory=dict)  # of the model
    load_options: Mapping[str, Any] = field(default_factory=dict)
    max_rows: int | None = None
    prefix_cache: str | int = PREFIX_CACHE
    neighbours: int = 1  # workers on one machine, which share its memory
