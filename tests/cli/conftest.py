from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2onnx.cli import main

Run = Callable[..., tuple[int, str, str]]


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
