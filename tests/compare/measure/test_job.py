"""A process that measures: its answer, its errors, and its end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import gpt2onnx
from gpt2onnx.compare.measure import job
from gpt2onnx.compare.measure.jobs import answer
from gpt2onnx.compare.record.answers import Placement, Ran
from gpt2onnx.compare.record.runs import Speed
from gpt2onnx.compare.record.schema import to_json
from tests.compare.jobs import a_job

# As ONNX Runtime says it, with the place in its source.
OUT_OF_MEMORY = (
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::"
    "AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory of 9"
)


def as_child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(job, "COMMAND", (sys.executable, "-c", code))


def test_an_error_of_ours_is_the_reason(tmp_path: Path) -> None:
    done = job.apart(a_job(folder=str(tmp_path / "none")))
    assert done.reason.startswith(f"{tmp_path / 'none'}: doesn't exist")


def test_a_measurement(models: Callable[[str], Path]) -> None:
    done = job.apart(a_job(folder=str(models("fp32")), batch=2, context=9))
    assert isinstance(done, Speed)
    assert 0 < done.step_ms.median <= done.step_ms.p95
    assert done.tokens_per_s > 0
    assert done.first_token_s > 0
    assert done.load_s > 0
    if Path("/proc/self/status").exists():
        assert done.memory.resident_bytes > done.memory.anonymous_bytes > 1e6


def test_what_each_kind_gives_is_whole_on_the_other_side(
    models: Callable[[str], Path], tmp_path: Path
) -> None:
    """A process apart gives what this one does, but for times."""
    for kind in ("reference", "placement", "answers"):
        asked = a_job(kind, folder=str(models("fp32")), work=str(tmp_path))
        assert job.apart(asked) == answer(asked)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise MemoryError", "MemoryError"),
        (f"raise RuntimeError({OUT_OF_MEMORY!r})", "RuntimeError: Failed to allocate memory of 9"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("import os; os.kill(os.getpid(), 6)", "ended by SIGABRT"),
        ("import sys; sys.exit(3)", "its process ended with status 3"),
        ("import os; os.write(2, b'no \\xff'); os._exit(3)", "no \ufffd"),
    ],
)
def test_a_crash_is_a_reason(monkeypatch: pytest.MonkeyPatch, code: str, reason: str) -> None:
    as_child(monkeypatch, code)
    assert reason in job.apart(a_job()).reason


def test_modules_of_the_working_directory_are_not_pythons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('mine')\n")
    (tmp_path / "json.py").write_text("raise SystemExit('mine')\n")
    monkeypatch.setenv("PYTHONPATH", str(Path(gpt2onnx.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    assert job.apart(a_job()).reason.startswith("none: doesn't exist")


def test_what_a_library_prints_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = Placement(Ran("cpu", share=1.0, copies=0, captured=False), {"cpu": {"Gemm": 1}})
    said = json.dumps({"result": to_json(placement)})
    as_child(monkeypatch, f"print('loading…'); print({said!r})")
    assert job.apart(a_job("placement")) == placement


def runs(pid: int) -> bool:
    """Whether a process does; one that has ended, though nobody has waited for it, doesn't."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z " not in stat.read_text()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_measurement_does_not_outlive_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # the second thread is the one that watches
    code = (
        "import subprocess; from gpt2onnx.compare.measure.job import COMMAND; "
        "child = subprocess.Popen(COMMAND); print(child.pid, flush=True); child.wait()"
    )
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as asking:  # a job that never comes
        child = int(asking.stdout.readline())
        deadline = time.monotonic() + 20
        while len(list(Path(f"/proc/{child}/task").iterdir())) == 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        asking.kill()
        while runs(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not runs(child)
