"""gpt2onnx batch: its words, its exit status, and what signals and full disks leave behind."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx.batch.records import records
from tests.cli.conftest import Run, Start

ONE = ("--workers", "1", "--threads", "1", "--max-new-tokens", "20")


@pytest.fixture
def prompts(tmp_path: Path) -> Callable[[int], Path]:
    def make(count: int) -> Path:
        (tmp_path / "in.txt").write_text("".join(f"{n:05}\n" for n in range(count)))
        return tmp_path / "in.txt"

    return make


def test_a_job(run: Run, folder: str, prompts: Any, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    status, out, err = run("batch", prompts(9), output, "--model", folder, *ONE, "--ordered")
    assert (status, out) == (0, "")
    assert err.startswith(f"gpt2onnx: 9 lines in {output}; ")
    assert err.endswith(" tokens/s\n")
    names = [json.loads(line)["custom_id"] for line in output.read_text().splitlines()]
    assert names == [f"line-{n}" for n in range(1, 10)]


def test_lines_that_fail(run: Run, folder: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text('{"prompt": "a"}\n{"prompt": "a", "top_k": -1}\n')
    status, _, err = run("batch", tmp_path / "in", tmp_path / "out", "--model", folder, *ONE)
    assert status == 1
    assert f"; 1 failed: {tmp_path / 'out.errors.jsonl'}\n" in err


def test_errors_name_options(run: Run, folder: str, prompts: Any, tmp_path: Path) -> None:
    given, output = prompts(2), tmp_path / "out"
    output.touch()
    status, _, err = run("batch", given, output, "--model", folder)
    assert status == 2
    told = "exists, and no unfinished job is beside it; --force replaces it"
    assert err == f"gpt2onnx: error: {output}: {told}\n"
    status, _, err = run("batch", given, output, "--model", folder, "--force", "--resume")
    assert (status, err) == (
        2,
        "gpt2onnx: error: --resume goes on with a job, and --force begins it anew: leave one out\n",
    )
    status, _, err = run("batch", given, output, "--model", folder, "--force", "--top-k", "-1")
    assert (status, err.startswith("gpt2onnx: error: --top-k -1: ")) == (2, True)
    assert output.read_bytes() == b""


def test_standard_input(folder: str, tmp_path: Path, start: Start) -> None:
    output = tmp_path / "out.jsonl"
    with start("batch", "-", str(output), "--model", folder, *ONE) as process:
        _, err = process.communicate(b"one\ntwo\n\nthree", timeout=120)
    assert (process.returncode, len(output.read_text().splitlines())) == (0, 3), err


def wait_for_records(job: Path) -> None:
    """Until something was answered."""
    end = time.monotonic() + 120
    while not any(True for path in job.glob("shard-*") for _ in records(path)):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal(
    number: signal.Signals, folder: str, prompts: Any, tmp_path: Path, start: Start
) -> None:
    """It says how to go on, and leaves no worker."""
    given, output = prompts(20_000), tmp_path / "out.jsonl"
    job = tmp_path / "out.jsonl.job"
    with start("batch", str(given), str(output), "--model", folder, *ONE) as process:
        wait_for_records(job)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.decode() == (
        "gpt2onnx: stopped; what is done is kept: the same command with --resume goes on\n"
    )
    assert not output.exists()
    assert any(True for path in job.glob("shard-*") for _ in records(path))


def test_a_full_disk(folder: str, prompts: Any, tmp_path: Path, start: Start, run: Run) -> None:
    """No file may grow beyond a size, as where none is left; with more room it goes on."""
    given, output = prompts(300), tmp_path / "out.jsonl"
    call = ("batch", str(given), str(output), "--model", folder, *ONE, "--no-startup-cache")

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    with start(*call, preexec_fn=little_room) as process:
        _, err = process.communicate(timeout=120)
    job = tmp_path / "out.jsonl.job"
    told = f"; what is done is kept in {job}: mend that, and go on with --resume\n"
    assert (process.returncode, err.decode().endswith(told)) == (1, True), err
    assert err.decode().splitlines()[-1].startswith("gpt2onnx: error: ")
    status, _, err = run(*call, "--resume")
    assert status == 0
    assert "of them before" in err
    names = [json.loads(line)["custom_id"] for line in output.read_text().splitlines()]
    assert len(names) == len(set(names)) == 300


def test_packages_that_are_missing(
    run: Run, folder: str, prompts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in [n for n in sys.modules if n.startswith(("gpt2onnx.batch", "gpt2onnx.server"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "starlette.types", None)
    status, _, err = run("batch", prompts(1), tmp_path / "out", "--model", folder)
    assert (status, err.splitlines()[-1].endswith("pip install 'gpt2onnx[batch]'")) == (2, True)


def test_it_runs_as_a_module_from_anywhere(folder: str, prompts: Any, tmp_path: Path) -> None:
    """Workers find the package that the job has."""
    import sys

    command = [sys.executable, "-m", "gpt2onnx", "batch", prompts(2), "out", "--model", folder]
    subprocess.run([*command, *ONE], cwd=tmp_path, check=True, capture_output=True)
