"""kill -9 at random moments, of workers and of whole jobs: no answer is lost, none comes twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gpt2onnx import run_batch
from tests.batch.conftest import answers

OPTIONS = ["--workers", "2", "--threads", "1", "--do-sample", "--max-new-tokens", "30"]


def start(given: Path, output: Path, folder: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gpt2onnx", "batch", str(given), str(output)]
    with output.with_name("said").open("wb") as said:
        return subprocess.Popen([*command, "--model", folder, "--resume", *OPTIONS], stderr=said)


def workers(job: int) -> list[int]:
    """The processes that a job has started."""
    try:
        return [int(each) for each in Path(f"/proc/{job}/task/{job}/children").read_text().split()]
    except FileNotFoundError:
        return []


def kill(job: subprocess.Popen[bytes], victim: str, draw: random.Random) -> bool:
    """Kill the job itself, or a worker of it that lives."""
    ids = [job.pid] if victim == "job" else workers(job.pid)
    if not ids or job.poll() is not None:
        return False
    os.kill(draw.choice(ids), signal.SIGKILL)
    return True


def survive(
    victims: Sequence[str], pause: Callable[[], float], given: Path, output: Path, folder: str
) -> int:
    """Run a job to its end; says how many of the victims were killed on the way."""
    draw, left = random.Random(len(victims)), list(victims)
    while True:
        with start(given, output, folder) as job:
            while left and job.poll() is None:
                time.sleep(pause())
                if kill(job, left[0], draw) and left.pop(0) == "job":
                    break
            status = job.wait(900)
        if status == 0 or is_over(output):  # a kill may come behind all that it had to do
            return len(victims) - len(left)
        assert status == -signal.SIGKILL, output.with_name("said").read_text()


def is_over(output: Path) -> bool:
    return output.exists() and not unfinished(output).exists()


def unfinished(output: Path) -> Path:
    """What lies beside the output for as long as its job isn't over."""
    return output.with_name(f"{output.name}.job")


def compare(given: Path, output: Path, folder: str) -> None:
    """With a run that nobody interrupted."""
    whole = output.with_name("whole.jsonl")
    run_batch(
        *(given, whole), model=folder, workers=1, threads=1, do_sample=True, max_new_tokens=30
    )
    assert answers(output) == answers(whole)
    assert is_over(output)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_few_kills(prompts: Callable[[int], Path], folder: str, tmp_path: Path) -> None:
    given, output = prompts(2000), tmp_path / "out.jsonl"
    victims = ["worker", "job", "worker", "job"]
    assert survive(victims, lambda: 1.5, given, output, folder) >= 2
    compare(given, output, folder)


@pytest.mark.slow
def test_forty_kills(prompts: Callable[[int], Path], folder: str, tmp_path: Path) -> None:
    draw = random.Random(40)
    victims = [draw.choice(["worker", "worker", "job"]) for _ in range(40)]
    while victims:  # a job on a fast machine is over before
        place = tmp_path / str(len(victims))
        place.mkdir()
        given, output = prompts(3000), place / "out.jsonl"
        killed = survive(victims, lambda: draw.uniform(0.1, 4), given, output, folder)
        assert killed
        victims = victims[killed:]
        compare(given, output, folder)
