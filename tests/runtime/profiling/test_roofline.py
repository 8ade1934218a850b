from __future__ import annotations

import pytest

from gpt2onnx.runtime.profiling import roofline
from gpt2onnx.runtime.profiling.roofline import Bound, bound, operations, read_bandwidth


@pytest.mark.parametrize("threads", [1, 3])
def test_a_bandwidth(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """A buffer that fits a cache is read faster than 100 MB/s, and slower than light."""
    monkeypatch.setattr(roofline, "ROUND", 1 << 22)
    assert 1e8 < read_bandwidth(1 << 20, threads) < 1e14


def test_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes over the shortest of the rounds, by a clock of our own: 8 MB in 2, 1 and 4 seconds."""
    clock = iter([0, 2, 10, 11, 20, 24])
    monkeypatch.setattr(roofline, "ROUNDS", 3)
    monkeypatch.setattr(roofline, "ROUND", 8 << 20)
    monkeypatch.setattr(roofline.time, "perf_counter", lambda: next(clock))
    assert read_bandwidth(2 << 20, 1) == 8 << 20


@pytest.mark.parametrize(
    ("done", "arithmetic", "expected"),
    [
        (40, 10.0, Bound("arithmetic", 4.0)),
        (40, 20.0, Bound("memory", 3.0)),  # 2 seconds of arithmetic
        (40, None, Bound("memory", 3.0)),
        (None, 10.0, Bound("memory", 3.0)),
    ],
)
def test_what_takes_longer_bounds(
    done: int | None, arithmetic: float | None, expected: Bound
) -> None:
    assert bound(300, 100.0, done, arithmetic) == expected


def test_operations_by_hand() -> None:
    config = {"n_layer": 2, "n_embd": 8, "vocab_size": 10, "n_inner": 16}
    matrices = 8 * 24 + 8 * 8 + 2 * 8 * 16  # c_attn, attention's c_proj, both of the MLP
    one = 2 * (matrices + 2 * 8 * 6) + 8 * 10  # behind 5: scores and values over 6
    assert operations(config, 1, 5) == 2 * one
    three = 2 * (3 * matrices + 2 * 8 * (1 + 2 + 3)) + 8 * 10
    assert operations(config, 3, 0) == 2 * three
    assert operations({**config, "n_inner": None}, 1, 0) > operations(config, 1, 0)
    assert operations({"hidden_size": 8}, 1, 0) is None
