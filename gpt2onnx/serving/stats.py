"""What an engine does and has done."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2onnx.runtime.engine.prefix_cache import PrefixStats


@dataclass(frozen=True)
class EngineStats:
    """Counters and gauges of one moment.

    accepted = waiting + running + frozen + finished + cancelled + expired + failed, always. A
    request is running from the moment that its first prompt is let in, and frozen while those that
    were are all frozen.
    """

    accepted: int
    waiting: int
    running: int
    frozen: int
    finished: int
    cancelled: int
    expired: int
    failed: int
    rows: int  # of the cache, claimed by what runs
    tokens_read: int  # by the model, prompts and steps, without what the prefix cache had
    tokens_written: int
    turns: int
    busy: float  # seconds that turns took
    prefixes: PrefixStats | None = None
