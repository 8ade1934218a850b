"""What is timed, and that all of it was done before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2onnx.compare.measure import speed
from gpt2onnx.compare.measure.meter import Meter
from gpt2onnx.compare.record.runs import Energy
from gpt2onnx.runtime.decoder import kv_cache as cache
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.decoder.protocol import Read
from gpt2onnx.runtime.model import Model
from tests.compare.jobs import a_job


@pytest.mark.usefixtures("todays_graph")
def test_nothing_is_timed_that_was_not_done_before(
    models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same steps in a cache of the same size, so that a device captures and allocates first."""
    done: list[Any] = []

    def reading(self: FusedDecoder, reads: Sequence[Read]) -> Any:
        arena = self.cache.arena
        assert arena is not None
        if len(reads[0].ids) == 1:
            lengths = [each.row.length for each in reads]
            done.append(((arena.rows, arena.capacity), lengths))
        return read(self, reads)

    def streaming(self: Model, *arguments: Any, **parameters: Any) -> Any:
        done.append("from the start")
        return stream(self, *arguments, **parameters)

    read, stream = FusedDecoder.read, Model.stream
    monkeypatch.setattr(FusedDecoder, "read", reading)
    monkeypatch.setattr(Model, "stream", streaming)
    monkeypatch.setattr(cache, "MIN_CAPACITY", 1)  # the model's positions, which would hide it
    speed.measure(a_job(folder=str(models("fp32")), batch=2, context=20, new_tokens=30))
    half = len(done) // 2
    assert done[:half] == done[half:]
    assert done[:2] == ["from the start", ((2, 51), [20, 20])]
    assert len(done[:half]) == 30  # the start, and steps for all tokens but the first


class DeviceMeter(Meter):
    """One whose device tells its energy; notes of how many tokens it is asked."""

    counts_device = True
    tokens = 0

    def __init__(self, uses_device: bool) -> None:
        super().__init__(uses_device=False)

    def energy(self, tokens: int) -> Energy:
        DeviceMeter.tokens = tokens
        return super().energy(tokens)


@pytest.mark.usefixtures("todays_graph")
def test_a_devices_energy_is_counted_over_seconds(
    models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its counter stands still for longer than a few tokens take."""
    seconds = itertools.count()  # one at each look at the clock
    clock = SimpleNamespace(perf_counter=lambda: float(next(seconds)))
    monkeypatch.setattr(speed, "time", clock)
    monkeypatch.setattr(speed, "Meter", DeviceMeter)
    monkeypatch.setattr(speed, "DEVICE_SECONDS", 20.0)
    found = speed.measure(a_job(folder=str(models("fp32")), batch=2, context=4, new_tokens=3))
    assert found.tokens_per_s == 2  # a step of two a second
    # A round looks at the clock five times: 0 to 3 in it, and whether it goes on.
    assert DeviceMeter.tokens == 2 * 3 * 5
