"""benchmarks.cuda without a device: the same code on the CPU, and what failure looks like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cuda.answers import FROM_FP32, difference
from benchmarks.cuda.bench import judged
from gpt2onnx.runtime.machine.processor import processor

ROOT = Path(__file__).parents[2]


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.cuda", *options],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_every_part_runs_on_the_cpu(tmp_path: Path) -> None:
    done = bench("--device", "cpu", "--quick", "--out", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == json.loads(done.stdout.splitlines()[-1])
    assert found["agreement fp16 plain"]["max"] < 0.05
    assert found["torch fp32"]["max"] < 0.05
    assert found["agreement fp32 plain"]["max"] < 1e-3
    for precision in ("fp32", "fp16", "int8", "int4"):
        # Before VNNI ONNX Runtime's 4-bit product of one row adds up otherwise than of several.
        most = 0.2 if precision == "int4" and processor().saturates_int8 else 1e-3
        assert found[f"rows {precision} plain"]["max"] < most
        assert all(found[f"beams {precision} plain"]["same"])
        for batch in (1, 4):
            for kind in ("step", "step_largest", "loop", "drawn"):
                assert found[f"{kind} {precision} plain, batch {batch}"]["tokens/s"] > 0
        assert found[f"step {precision} plain, batch 4, context 200"]["tokens/s"] > 0
        assert found[f"prompt {precision}, 200"]["tokens/s"] > 0
    assert "| eager, batch 4 |" in done.stdout
    assert "| agreement int4 plain |" in done.stdout


def test_without_a_device_each_part_says_what_is_missing(tmp_path: Path) -> None:
    done = bench("--quick", "--out", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    if "error" not in found["agreement fp16 plain"]:  # there is a device
        return
    assert "cuda can't run here" in found["agreement fp16 plain"]["error"]
    assert "cuda can't run here" in found["step int4 graphs, batch 4"]["error"]
    assert "Traceback" in done.stdout
    assert done.returncode == 1
    assert "agreement fp16 plain" in done.stderr


def test_one_group_alone_uses_what_was_exported(tmp_path: Path) -> None:
    again = ("--device", "cpu", "--quick", "--folder", str(tmp_path / "kept"))
    models = []
    for group in ("fp16", "torch"):
        done = bench(*again, "--only", group, "--out", str(tmp_path / "new" / f"{group}.json"))
        assert done.returncode == 0, done.stdout + done.stderr
        models.append((tmp_path / "kept" / "fp16-cuda" / "model.onnx").stat().st_mtime_ns)
    assert models[0] == models[1]
    found = json.loads((tmp_path / "new" / "torch.json").read_text())
    assert set(found) == {"torch fp32", "torch fp16", "eager, batch 1", "eager, batch 4"}


@pytest.mark.parametrize("spoil", [lambda x: x[:, ::-1], lambda x: x * np.nan, lambda x: x + 1])
def test_wrong_logits_are_an_error(spoil: Callable[[np.ndarray], np.ndarray]) -> None:
    logits = np.random.default_rng(1).normal(0, 0.5, (4, 500)).astype(np.float32)
    for share in FROM_FP32.values():
        assert "error" not in judged(difference(logits + share * 0.2, logits, share))
        assert "allowed" in judged(difference(spoil(logits), logits, share))["error"]


def test_parts_for_which_no_time_is_left_say_so(tmp_path: Path) -> None:
    bench("--device", "cpu", "--quick", "--minutes", "0", "--out", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(map(str, found.values())) == {str({"skipped": "no time left"})}
