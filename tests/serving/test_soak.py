"""Many mixed requests on the fake decoder: each right, and nothing is left of any."""

from __future__ import annotations

import gc
import random
import tracemalloc
from typing import Any

import pytest

from gpt2onnx import Engine, Handle
from gpt2onnx.errors import QueueFullError, RequestCancelledError, RequestExpiredError
from tests.serving.fake_model import FakeModel, alone

NUMBERS = 60


@pytest.mark.parametrize(
    "count", [600, pytest.param(100_000, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_a_soak_leaves_nothing(count: int) -> None:
    """30 % are cancelled at any moment; priorities, tenants and deadlines are mixed, too."""
    expected = [alone(number) for number in range(NUMBERS)]
    rng, model = random.Random(count), FakeModel()
    engine = Engine(model, max_rows=24, max_waiting=200)  # type: ignore[arg-type]
    settled = {"right": 0, "cancelled": 0, "expired": 0, "full": 0}
    open_: list[tuple[int, Handle]] = []
    tracemalloc.start()
    held = 0
    for place in range(count):
        number = rng.randrange(NUMBERS)
        asked: dict[str, Any] = {"priority": rng.choice([-1, 0, 0, 0, 2])}
        asked |= {"tenant": rng.choice("abc"), "deadline": rng.choice([None] * 9 + [0.01])}
        try:
            handle = engine.submit(number, **asked)
        except QueueFullError:
            settled["full"] += 1
            settle(open_.pop(0), expected, settled)
            continue
        if rng.random() < 0.3:
            handle.cancel()
        open_.append((number, handle))
        if len(open_) > 150:
            late = rng.randrange(len(open_))
            if rng.random() < 0.1:
                open_[late][1].cancel()
            settle(open_.pop(late), expected, settled)
        if place == count // 5:
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
    for each in open_:
        settle(each, expected, settled)
    open_.clear()
    stats = engine.stats()
    assert stats.waiting == stats.running == stats.frozen == stats.failed == stats.rows == 0
    assert stats.accepted == stats.finished + stats.cancelled + stats.expired
    assert stats.accepted == count - settled["full"]
    assert (stats.finished, stats.cancelled) == (settled["right"], settled["cancelled"])
    assert settled["right"] > count / 2
    assert settled["cancelled"] > count / 5
    assert model.decoder.rows == model.decoder.frozen == []
    assert not engine._requests
    assert not engine._parts
    model.decoder.calls.clear()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - held
    tracemalloc.stop()
    engine.close()
    if count > 10_000:
        assert grown < 1_000_000


def settle(asked: tuple[int, Handle], expected: list[Any], settled: dict[str, int]) -> None:
    """Wait for a request's end, and count how it ended."""
    number, handle = asked
    try:
        assert handle.result(60) == expected[number]
        settled["right"] += 1
    except RequestCancelledError:
        settled["cancelled"] += 1
    except RequestExpiredError:
        settled["expired"] += 1
