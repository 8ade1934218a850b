"""scripts/bench_cuda.py without a device: the same code on the CPU, and what failure looks like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "bench_cuda.py"


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *options],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def test_every_part_runs_on_the_cpu(tmp_path: Path) -> None:
    done = bench("--device", "cpu", "--quick", "--out", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == json.loads(done.stdout.splitlines()[-1])
    assert found["agreement fp16 plain"]["max"] < 0.05
    assert found["torch"]["fp32"]["max"] < 0.05
    assert found["agreement fp32 plain"]["max"] < 1e-3
    for precision in ("fp32", "fp16", "int8", "int4"):
        assert found[f"rows {precision} plain"]["max"] < 1e-3
        assert all(found[f"beams {precision} plain"]["same"])
        for batch in (1, 4):
            for kind in ("step", "step_largest", "loop", "drawn"):
                assert found[f"{kind} {precision} plain, batch {batch}"]["tokens/s"] > 0
    assert "| eager, batch 4 |" in done.stdout


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


def test_parts_for_which_no_time_is_left_say_so(tmp_path: Path) -> None:
    bench("--device", "cpu", "--quick", "--minutes", "0", "--out", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(map(str, found.values())) == {str({"skipped": "no time left"})}
