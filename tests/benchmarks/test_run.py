"""The driver from end to end: fake engines, and gpt2onnx itself on the bundled model."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.environments import Environment, InstallError
from benchmarks.process import Worker, WorkerError
from benchmarks.run import Benchmark
from benchmarks.variants import Variant, ours

DEMO = Path(__file__).parents[2] / "gpt2onnx" / "demo" / "model"


class Here(Environment):
    """The interpreter that runs the tests."""

    def make(self, folder: Path) -> None:
        pass

    def python(self, folder: Path) -> Path:
        return Path(sys.executable)

    def installed_mb(self, folder: Path) -> float:
        return 1.0


class Nowhere(Environment):
    def make(self, folder: Path) -> None:
        raise InstallError("no matching distribution")


HERE = Here("here", ())


def fake(name: str, bits: int = 32, convert: str = "", **options: str | int) -> Variant:
    broken = {"broken": convert} if convert else {}
    return Variant(name, "tests.benchmarks.fake_peer", bits, HERE, HERE, broken, options)


def run(tmp_path: Path, *variants: Variant) -> Benchmark:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    config = {"n_positions": 64, "vocab_size": 100}
    (checkpoint / "config.json").write_text(json.dumps(config))
    benchmark = Benchmark(variants, checkpoint, tmp_path, tmp_path, threads=1, rounds=1, quick=True)
    benchmark.run()
    return benchmark


def test_engines_are_measured_and_compared_and_the_broken_ones_named(tmp_path: Path) -> None:
    unmade = replace(fake("unmade"), converter=Nowhere("nowhere", ()))
    benchmark = run(
        tmp_path,
        fake("wrong", bits=8, off_by=1),
        fake("right"),
        fake("alone", bits=8, broken="rows"),
        fake("unconverted", bits=8, convert="convert"),
        fake("dying", bits=8, broken="exit"),
        unmade,
    )
    found = {name: result.as_json() for name, result in benchmark.results.items()}
    assert benchmark.reference == "right"
    right, wrong, alone = (found[name] for name in ("right", "wrong", "alone"))
    assert right["figures"]["decode_32_ms"]["agreement"] == {"top1": 1.0, "at_least": False}
    assert wrong["figures"]["decode_32_ms"]["agreement"] == {"top1": 0.0, "at_least": False}
    assert right["figures"]["greedy_equal"]["median"] == 32
    assert wrong["figures"]["greedy_equal"]["median"] == 0
    assert wrong["figures"]["max_logit_difference"]["median"] == 1
    for figure in ("load_s", "first_token_s", "peak_mb", "batch_8_tokens_per_s", "prompt_32_ms"):
        assert len(right["figures"][figure]["rounds"]) == 1
        assert right["figures"][figure]["median"] > 0
    assert right["settings"] == {"kind": "fake"}
    assert alone["missing"] == {"batch_8_tokens_per_s": "ValueError: one row alone"}
    assert found["unconverted"]["left_out"].endswith("ValueError: no such weights")
    assert found["unmade"]["left_out"] == "no matching distribution"
    assert "ended with status 3" in found["dying"]["missing"]["decode_32_ms"]


def test_ours_on_the_bundled_model(tmp_path: Path) -> None:
    variants = [replace(ours(name), environment=HERE, converter=HERE) for name in ("fp32", "int8")]
    benchmark = Benchmark(variants, DEMO, tmp_path, tmp_path, threads=1, rounds=1, quick=True)
    benchmark.run()
    fp32, int8 = (benchmark.results[each.name] for each in variants)
    assert (fp32.missing, int8.missing) == ({}, {})
    assert benchmark.reference == "gpt2onnx fp32"
    assert fp32.rounds["top1"] == [1.0]
    assert 0.9 < int8.rounds["top1"][0] <= 1
    assert 0 < int8.rounds["max_logit_difference"][0] < 2
    assert int8.rounds["model_mb"][0] < fp32.rounds["model_mb"][0]
    assert int8.rounds["first_token_s"][0] > 0


def test_a_worker_that_is_not_asked_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"vocab_size": 10}')
    spec = {"module": "tests.benchmarks.fake_peer", "folder": str(tmp_path)}
    spec |= {"threads": 1, "options": {}}
    worker = Worker(Path(sys.executable), spec, {}, tmp_path / "log")
    try:
        worker.ask("open")
        deadline = time.monotonic() + 5  # the signal takes a moment
        while state(worker) != "T" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state(worker) == "T"
        assert worker.ask("settings") == {"kind": "fake"}
        with pytest.raises(WorkerError, match="has no attribute 'unheard_of'"):
            worker.ask("unheard_of")
    finally:
        worker.close()


def state(worker: Worker) -> str:
    """T is stopped: proc(5)."""
    stat = Path(f"/proc/{worker._process.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]
