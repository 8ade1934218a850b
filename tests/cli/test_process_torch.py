"""Signals while the command line runs, an export with its verification among it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Start
from tests.cli.test_process import ENDLESS

ENDED = {signal.SIGINT: {130, -2}, signal.SIGTERM: {143, -15}, signal.SIGHUP: {129, -1}}


@pytest.mark.parametrize("number", ENDED)
@pytest.mark.parametrize("command", ["generate", "export"])
def test_a_signal_at_any_moment(
    start: Start, command: str, number: int, folder: str, checkpoint: Path, tmp_path: Path
) -> None:
    """Whatever is being imported or written: one of two ends, nothing said, nothing left."""
    calls = {
        "generate": ("hello", "--model", folder, "--no-startup-cache", *ENDLESS),
        "export": (str(checkpoint), str(tmp_path / "out"), "--verify"),
    }
    for moment in range(8):
        with start(command, *calls[command]) as process:
            time.sleep(0.4 * moment / 8)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert (process.returncode in ENDED[number], err) == (True, b""), process.returncode
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ENDED)
def test_a_signal_while_an_export_is_written(
    start: Start, number: int, checkpoint: Path, tmp_path: Path
) -> None:
    with start("export", str(checkpoint), str(tmp_path / "out"), "--verify") as process:
        while not list(tmp_path.iterdir()) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert (process.returncode in ENDED[number], err) == (True, b""), process.returncode
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_is_swept_by_the_next(
    start: Start, checkpoint: Path, tmp_path: Path
) -> None:
    call = ("export", str(checkpoint), str(tmp_path / "out"))
    with start(*call, "--verify") as process:
        while not list(tmp_path.iterdir()):
            time.sleep(0.001)
        process.kill()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.gpt2onnx-")
    with start(*call, "--no-verify") as process:
        process.communicate(timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
