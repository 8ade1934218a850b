from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx.cli import main

# A shell's background jobs ignore SIGINT, nohup's SIGHUP, and so would what they start. Says when
# its start is done that is Python's own, in which an interrupt is Python's, too.
START = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from gpt2onnx.cli import main
try:
    os.write(1, b"!")
    sys.exit(main())
except KeyboardInterrupt:  # between the two
    sys.exit(130)
"""
Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="session")
def folder(models: Callable[[str], Path]) -> str:
    """A model folder in fp32 of 64 positions; its tokens are bytes and the end token, 256."""
    return str(models("fp32"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process: exit status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse's way out
            status = end.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def fill(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return fill


@pytest.fixture
def start() -> Start:
    def start(*arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", START, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **more,
        )
        assert process.stdout.read(1) == b"!"
        return process

    return start
