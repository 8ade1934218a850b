from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from gpt2onnx.compare.report.cost import Prices, add_costs, crossovers
from gpt2onnx.compare.report.findings import findings
from gpt2onnx.errors import ParameterError


def run(provider: str, precision: str, batch: int, speed: float | None) -> dict[str, Any]:
    where = {"provider": provider, "precision": precision, "batch": batch, "context": 32}
    if speed is None:
        return {**where, "status": "unavailable", "reason": "not there"}
    return {**where, "status": "ok", "tokens_per_s": speed, "energy": {"reasons": {}}}


def runs() -> list[dict[str, Any]]:
    return [
        *(run("cpu", "fp32", 1, 50), run("cpu", "fp32", 8, 100), run("cpu", "fp32", 32, 120)),
        *(run("cpu", "int8", 1, 200), run("cpu", "int8", 8, 400), run("cpu", "int8", 32, 500)),
        *(run("cuda", "fp16", 1, 150), run("cuda", "fp16", 8, 1000), run("cuda", "fp16", 32, 9000)),
        run("cuda", "int4", 1, None),
    ]


def test_dollars_speed_ups_and_break_even_by_hand() -> None:
    made = runs()
    add_costs(made, Prices(cpu=0.36, gpu=3.6))
    gpu = made[7]
    # 1000 tokens/s are 3.6 million an hour: $3.6 an hour is $1 a million.
    assert gpu["dollars_per_million_tokens"] == pytest.approx(1.0)
    assert made[4]["dollars_per_million_tokens"] == pytest.approx(0.25)
    assert gpu["speedup_over_best_cpu"] == pytest.approx(2.5)
    assert gpu["speedup_over_cpu_fp32"] == pytest.approx(10)
    # At $0.9 an hour its million would cost $0.25 as well.
    assert gpu["break_even_price"] == pytest.approx(0.9)
    assert made[4]["break_even_price"] is None
    assert "dollars_per_million_tokens" not in made[-1]


def test_from_which_batch_on_the_gpu_pays() -> None:
    made = runs()
    add_costs(made, Prices(cpu=0.36, gpu=3.6))
    assert crossovers(made) == [
        {"provider": "cuda", "precision": "fp16", "context": 32, "by_speed": 8, "by_price": 32}
    ]
    made[8]["tokens_per_s"] = 499  # a batch that pays below one that doesn't is none
    assert crossovers(made)[0]["by_speed"] is None


def test_what_the_cpu_did_not_run_is_no_comparison() -> None:
    """A batch that the CPU has no memory for; a report of the GPU alone."""
    made = runs()
    made[2], made[5] = run("cpu", "fp32", 32, None), run("cpu", "int8", 32, None)
    add_costs(made, Prices())
    assert crossovers(made)[0]["by_speed"] == 8
    assert crossovers(made[6:]) == []


@pytest.mark.parametrize("failed", [run("cuda", "fp16", 32, None), None])
def test_what_the_gpu_did_not_run_does_not_pay_there(failed: dict[str, Any] | None) -> None:
    """Out of memory at 32, or interrupted before it: nothing is claimed of it by what is below."""
    prices = Prices(cpu=0.36, gpu=0.36)
    made = runs()
    add_costs(made, prices)
    assert (crossovers(made)[0]["by_speed"], crossovers(made)[0]["by_price"]) == (8, 8)
    made[8:9] = [failed] if failed else []
    found = crossovers(made)
    assert (found[0]["by_speed"], found[0]["by_price"]) == (None, None)
    said = findings({"runs": made, "crossovers": found, "answers": [], "prices": asdict(prices)})
    both = "faster than the CPU at batch 8 but not from there on, cheaper at batch 8 but not from"
    assert f"cuda fp16, context 32: {both} there on." in said


def test_a_gpu_that_pays_nowhere() -> None:
    prices = Prices(cpu=0.36, gpu=3.6)
    made = [run("cpu", "fp32", 1, 50), run("cuda", "fp16", 1, 40)]
    add_costs(made, prices)
    record = {"runs": made, "crossovers": crossovers(made), "answers": [], "prices": asdict(prices)}
    assert "cuda fp16, context 32: never faster than the CPU, never cheaper." in findings(record)


def test_without_prices_there_are_no_dollars() -> None:
    made = runs()
    add_costs(made, Prices())
    assert made[7]["dollars_per_million_tokens"] is None
    assert made[7]["break_even_price"] is None
    assert crossovers(made)[0]["by_price"] is None


@pytest.mark.parametrize("price", [0, -1, float("nan"), float("inf")])
def test_prices_are_above_nothing(price: float) -> None:
    with pytest.raises(ParameterError, match="gpu_price="):
        Prices(gpu=price)
