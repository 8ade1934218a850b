from __future__ import annotations

from dataclasses import replace

import pytest

from gpt2onnx.compare.record.costs import Cost, Crossover, Prices
from gpt2onnx.compare.record.grid import Configuration
from gpt2onnx.compare.record.record import Record
from gpt2onnx.compare.record.runs import Missing, Run
from gpt2onnx.compare.report.cost import priced
from gpt2onnx.compare.report.findings import findings
from gpt2onnx.errors import ParameterError
from tests.compare.records import a_record, a_run
from tests.raising import raises


def runs() -> list[Run | Missing]:
    return [
        *(a_run("cpu", "fp32", 1, 50), a_run("cpu", "fp32", 8, 100), a_run("cpu", "fp32", 32, 120)),
        *(a_run("cpu", "int8", 1, 200), a_run("cpu", "int8", 8, 400)),
        a_run("cpu", "int8", 32, 500),
        *(a_run("cuda", "fp16", 1, 150), a_run("cuda", "fp16", 8, 1000)),
        *(a_run("cuda", "fp16", 32, 9000), a_run("cuda", "int4", 1, None)),
    ]


def costed(made: list[Run | Missing], cpu: float | None = None, gpu: float | None = None) -> Record:
    return priced(a_record(made), Prices(cpu, gpu))


def test_dollars_speed_ups_and_break_even_by_hand() -> None:
    made = costed(runs(), cpu=0.36, gpu=3.6).runs
    gpu, cpu = made[7].cost, made[4].cost
    # 1000 tokens/s are 3.6 million an hour: $3.6 an hour is $1 a million.
    assert gpu.dollars_per_million_tokens == pytest.approx(1.0)
    assert cpu.dollars_per_million_tokens == pytest.approx(0.25)
    assert gpu.speedup_over_best_cpu == pytest.approx(2.5)
    assert gpu.speedup_over_cpu_fp32 == pytest.approx(10)
    # At $0.9 an hour its million would cost $0.25 as well.
    assert gpu.break_even_price == pytest.approx(0.9)
    assert cpu.break_even_price is None
    assert made[-1] == runs()[-1]


def test_from_which_batch_on_the_gpu_pays() -> None:
    made = runs()
    half = Configuration("cuda", "fp16")
    assert costed(made, cpu=0.36, gpu=3.6).crossovers == [
        Crossover(half, context=32, by_speed=8, by_price=32)
    ]
    made[8] = a_run("cuda", "fp16", 32, 499)  # a batch that pays below one that doesn't is none
    assert costed(made, cpu=0.36, gpu=3.6).crossovers[0].by_speed is None


def test_what_the_cpu_did_not_run_is_no_comparison() -> None:
    """A batch that the CPU has no memory for; a report of the GPU alone."""
    made = runs()
    made[2], made[5] = a_run("cpu", "fp32", 32, None), a_run("cpu", "int8", 32, None)
    assert costed(made).crossovers[0].by_speed == 8
    assert costed(made[6:]).crossovers == []


@pytest.mark.parametrize("failed", [a_run("cuda", "fp16", 32, None), None])
def test_what_the_gpu_did_not_run_does_not_pay_there(failed: Missing | None) -> None:
    """Out of memory at 32, or interrupted before it: nothing is claimed of it by what is below."""
    made = runs()
    (found,) = costed(made, cpu=0.36, gpu=0.36).crossovers
    assert (found.by_speed, found.by_price) == (8, 8)
    made[8:9] = [failed] if failed else []
    record = costed(made, cpu=0.36, gpu=0.36)
    assert (record.crossovers[0].by_speed, record.crossovers[0].by_price) == (None, None)
    both = "faster than the CPU at batch 8 but not from there on, cheaper at batch 8 but not from"
    assert f"cuda fp16, context 32: {both} there on." in findings(record)


def test_a_gpu_that_pays_nowhere() -> None:
    record = costed([a_run("cpu", "fp32", 1, 50), a_run("cuda", "fp16", 1, 40)], cpu=0.36, gpu=3.6)
    assert "cuda fp16, context 32: never faster than the CPU, never cheaper." in findings(record)


def test_without_prices_there_are_no_dollars() -> None:
    record = costed(runs())
    speedups = Cost(speedup_over_best_cpu=2.5, speedup_over_cpu_fp32=10)
    assert record.runs[7].cost == speedups
    assert record.crossovers[0].by_price is None


def test_prices_anew() -> None:
    """What earlier prices gave doesn't stay."""
    before = costed(runs(), cpu=0.36, gpu=3.6)
    assert priced(before, Prices()) == replace(costed(runs()), asked=before.asked)


@pytest.mark.parametrize("price", [0, -1, 1e-300, 1e300, float("nan"), float("inf")])
def test_prices_are_above_nothing_and_below_millions(price: float) -> None:
    with raises(ParameterError, parameters={"gpu_price": price}):
        Prices(gpu=price)
