"""A row of the benchmark on the kernels' graph, beside today's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.run import Benchmark
from benchmarks.variants import ours
from tests.benchmarks.test_run import DEMO, HERE


def test_both_graphs_of_the_bundled_model(tmp_path: Path) -> None:
    names = ("fp32", "fp32-kernels")
    variants = [replace(ours(name), environment=HERE, converter=HERE) for name in names]
    benchmark = Benchmark(variants, DEMO, tmp_path, tmp_path, threads=1, rounds=1, quick=True)
    benchmark.run()
    today, kernels = (benchmark.results[each.name] for each in variants)
    assert (today.missing, kernels.missing) == ({}, {})
    assert benchmark.reference == "gpt2onnx fp32"
    assert "kernels" not in today.settings["runs on"]
    assert kernels.settings["runs on"].endswith(" kernels")
    assert kernels.rounds["top1"] == [1.0]
    assert 0 < kernels.rounds["max_logit_difference"][0] < 1e-3
    assert kernels.rounds["first_token_s"][0] > 0
