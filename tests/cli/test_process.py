"""What only a process of its own shows: signals, pipes, and what is imported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

# A shell's background jobs ignore SIGINT, and so would what they start.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from gpt2onnx.cli import main
sys.exit(main(sys.argv[1:]))
"""
# Prints, as its last line, which of some modules were loaded.
LOADED = """
import sys
from gpt2onnx.cli import main
try:
    main(sys.argv[2:])
except SystemExit:
    pass
print(*(name for name in sys.argv[1].split(",") if name in sys.modules))
"""
ENDLESS = ("--max-new-tokens", "1000000", "--overflow", "slide", "--eos-token-id", "")

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Start:
    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", START, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


def loaded(modules: str, arguments: Sequence[str]) -> str:
    command = [sys.executable, "-c", LOADED, modules, *arguments]
    out = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return out.splitlines()[-1]


def test_ctrl_c_ends_the_line(start: Start, folder: str) -> None:
    with start("generate", "hello", "--model", folder, *ENDLESS) as process:
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")
    assert out.endswith(b"\n")


def test_ctrl_c_while_evaluating(start: Start, folder: str) -> None:
    """What was done stands; the second model is on its way."""
    options = ("--text", "-", "--stride", "1", "--json")
    with start("eval", folder, folder, *options) as process:
        process.stdin.write(b"some text " * 400)
        process.stdin.close()
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest, err = process.stdout.read(), process.stderr.read()
    assert first["model"] == folder
    assert (process.returncode, rest, err) == (130, b"", b"")


def test_a_reader_that_goes_away(start: Start, folder: str) -> None:
    for command in ("generate", "trace"):
        with start(command, "hello", "--model", folder, *ENDLESS) as process:
            assert process.stdout.read(1)
            process.stdout.close()
            err = process.stderr.read()
        assert (process.returncode, err) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk(folder: str) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "gpt2onnx", "inspect", folder],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr == b"gpt2onnx: error: standard output: No space left on device\n"


def test_standard_input(start: Start, folder: str) -> None:
    with start("generate", "--model", folder, "--json", "--max-new-tokens", "1") as process:
        out, err = process.communicate("é\n".encode(), timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert len(json.loads(out)["prompt_token_ids"]) == 2


def test_a_terminal_without_a_character_shows_its_number(folder: str) -> None:
    command = [sys.executable, "-m", "gpt2onnx", "generate", "é", "--model", folder, "--echo"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert ended.returncode == 0
    assert ended.stdout.startswith(b"\\xe9")


def test_help_is_cheap() -> None:
    for arguments in (["--help"], ["--version"]):
        assert loaded("numpy,onnxruntime,tokenizers", arguments) == ""


def test_generating_needs_neither_pytorch_nor_the_export(folder: str) -> None:
    asked = "onnxruntime,torch,transformers,onnx,optimum,safetensors,huggingface_hub,tqdm"
    arguments = ["generate", "hello", "--model", folder, "--max-new-tokens", "2"]
    assert loaded(asked, arguments) == "onnxruntime"


def test_evaluating_needs_neither_pytorch_nor_the_export(folder: str, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("some text")
    asked = "onnxruntime,torch,transformers,onnx,optimum,safetensors,huggingface_hub,tqdm"
    arguments = ["eval", folder, "--text", str(text), "--reference", folder]
    assert loaded(asked, arguments) == "onnxruntime"
