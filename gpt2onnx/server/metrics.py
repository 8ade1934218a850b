"""/metrics: what the engines and the server do, for Prometheus.

Names are vLLM's where the meaning is the same, with our prefix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gpt2onnx.server.served import ServedModels

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
# Of EngineStats: its name here, its field, and what it counts.
_GAUGES = (
    ("num_requests_running", "running", "requests that run"),
    ("num_requests_waiting", "waiting", "requests that wait"),
    ("num_requests_frozen", "frozen", "requests that were let in and wait for others"),
    ("cache_rows", "rows", "rows of the cache that are in use"),
)
_COUNTERS = (
    ("requests_accepted", "accepted", "requests that an engine took"),
    ("requests_finished", "finished", "requests that ended by themselves"),
    ("requests_cancelled", "cancelled", "requests that were cancelled"),
    ("requests_expired", "expired", "requests that waited too long"),
    ("requests_failed", "failed", "requests that failed"),
    ("tokens_read", "tokens_read", "tokens that the model read, prompts and steps"),
    ("generation_tokens", "tokens_written", "tokens that were written"),
    ("engine_turns", "turns", "turns of the engine"),
    ("engine_busy_seconds", "busy", "seconds that these took"),
)
_PREFIXES = (
    ("prefix_cache_hits", "hits", "prompts whose beginning was known"),
    ("prefix_cache_misses", "misses", "prompts whose beginning wasn't known"),
)


class Metrics:
    """A registry of its own."""

    def __init__(self, models: ServedModels, paths: frozenset[str]) -> None:
        """`paths` are the ones that are told apart: whatever else is asked for counts as other."""
        self._registry, self._paths = CollectorRegistry(), paths
        self._registry.register(_Engines(models))
        self._requests = Counter(
            *("gpt2onnx:http_requests", "HTTP requests by path and status", ("path", "status")),
            registry=self._registry,
        )
        self._seconds = Histogram(
            *("gpt2onnx:http_request_seconds", "seconds of HTTP requests to their end", ("path",)),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Note a request's end."""
        known = path if path in self._paths else "other"
        self._requests.labels(known, str(status)).inc()
        self._seconds.labels(known).observe(seconds)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Engines(Collector):
    """What each engine says at the moment of the scrape."""

    def __init__(self, models: ServedModels) -> None:
        self._models = models

    def collect(self) -> Iterator[Any]:
        stats = {each.name: each.engine.stats() for each in self._models}
        for name, field, help in _GAUGES:
            gauge = GaugeMetricFamily(f"gpt2onnx:{name}", help, labels=["model_name"])
            for model, each in stats.items():
                gauge.add_metric([model], getattr(each, field))
            yield gauge
        for name, field, help in _COUNTERS:
            counter = CounterMetricFamily(f"gpt2onnx:{name}", help, labels=["model_name"])
            for model, each in stats.items():
                counter.add_metric([model], getattr(each, field))
            yield counter
        for name, field, help in _PREFIXES:
            counter = CounterMetricFamily(f"gpt2onnx:{name}", help, labels=["model_name"])
            for model, each in stats.items():
                if each.prefixes:
                    counter.add_metric([model], getattr(each.prefixes, field))
            yield counter
