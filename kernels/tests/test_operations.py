"""The processor's ceiling, by each of the kernels that run here, and how far its cores are."""

from __future__ import annotations

import os

import gpt2onnx_kernels
import pytest
from gpt2onnx_kernels import KERNELS_VARIABLE, distance, operations


@pytest.mark.parametrize("name", gpt2onnx_kernels.kernels_here())
@pytest.mark.parametrize("rounded", [False, True])
def test_multiply_adds_are_done(name: str, rounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that finds that nothing comes of them leaves them out, and that is beyond any."""
    monkeypatch.setenv(KERNELS_VARIABLE, name)
    assert 1e6 < operations(rounded=rounded, seconds=0.01) < 2e13


def test_other_kernels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, "fast")
    with pytest.raises(ValueError, match="GPT2ONNX_KERNELS is 'fast': expected one of"):
        operations(rounded=True)


def test_processors_are_some_way_apart() -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one processor")
    assert 1e-9 < distance(rounds=200) < 1
    assert os.sched_getaffinity(0) == allowed


def test_one_processor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    with pytest.raises(ValueError, match="expected two processors, this process may run on 3 alon"):
        distance()
