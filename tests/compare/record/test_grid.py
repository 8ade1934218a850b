from __future__ import annotations

from typing import Any

import pytest

from gpt2onnx.compare.record.grid import Cell, Configuration, Grid
from gpt2onnx.errors import ParameterError


def test_every_provider_with_every_precision_at_every_batch_and_context() -> None:
    grid = Grid(("cpu", "cuda"), ("fp32", "int8"), (1, 8), (32, 64))
    assert list(map(str, grid.configurations)) == [
        *("cpu fp32", "cpu int8", "cuda fp32", "cuda int8"),
    ]
    one = Configuration("cpu", "int8")
    assert list(grid.cells(one)) == [Cell(one, b, c) for b in (1, 8) for c in (32, 64)]


def test_other_runtimes_come_behind_in_the_same_sizes() -> None:
    grid = Grid(("cpu",), ("fp32", "int8"), (8, 1), (32,), runtimes={"web": "cpu", "node": "cpu"})
    assert list(map(str, grid.configurations)) == [
        *("cpu fp32", "cpu int8", "web fp32", "web int8", "node fp32", "node int8"),
    ]
    one = Configuration("cpu", "int8", "web")
    assert list(grid.cells(one)) == [Cell(one, 8, 32), Cell(one, 1, 32)]


def test_the_cpu_runs_the_kernels_graph_beside_todays() -> None:
    named = {"runtimes": {"web": "cpu"}, "kernels": ("int8",)}
    grid = Grid(("cpu", "cuda"), ("fp32", "int8"), (1,), (32,), **named)
    assert list(map(str, grid.configurations)) == [
        *("cpu fp32", "cpu int8", "cpu int8 kernels", "cuda fp32", "cuda int8"),
        *("web fp32", "web int8"),
    ]


def test_the_cpu_runs_the_kernels_graph_alone() -> None:
    named = {"runtimes": {"web": "cpu"}, "graph": "kernels"}
    grid = Grid(("cpu", "cuda"), ("fp32", "fp16"), (1,), (32,), **named)
    assert list(map(str, grid.configurations)) == [
        *("cpu fp32 kernels", "cpu fp16 kernels", "cuda fp32", "cuda fp16"),
        *("web fp32", "web fp16"),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch": (0,)}, "batch=0: expected at least 1"),
        ({"context": ()}, "context: expected at least one"),
        ({"batch": (1, 1)}, "batch=1,1: expected each of them once"),
        ({"new_tokens": 1}, "new_tokens=1: expected at least 2"),
        ({"threads": 10**6}, "threads=1000000: expected 1 to 1,024"),
        ({"batch": (10**30,)}, f"batch={10**30}: expected at most 10,000"),
        ({"threads": 0}, "threads=0: expected 1 to 1,024"),
        ({"providers": ("cuda",), "graph": "kernels"}, "graph='kernels' has no effect on cuda"),
        ({"tf32": True}, "tf32=True has no effect on cpu"),
        ({"cuda_graph": True}, "cuda_graph=True has no effect on cpu"),
    ],
)
def test_mistakes(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Grid(**{"providers": ("cpu",), "precisions": ("fp32",), **given})


def test_the_model_has_room() -> None:
    grid = Grid(("cpu",), ("fp32",), (1,), (40,), new_tokens=24)
    grid.check_positions(64)
    with pytest.raises(ParameterError, match=r"context=40 and new_tokens=24 .* 63 positions"):
        grid.check_positions(63)
