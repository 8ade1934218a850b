"""What only a process of its own shows: signals, pipes, and what is imported."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import Start

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
# Runs the process's own command line, and prints how often garbage was collected meanwhile.
COLLECTED = """
import gc
from gpt2onnx.cli import main
before = sum(each["collections"] for each in gc.get_stats())
main()
print(sum(each["collections"] for each in gc.get_stats()) - before)
"""
ENDLESS = ("--max-new-tokens", "1000000", "--overflow", "slide", "--eos-token-id", "")


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


def test_ctrl_c_that_a_package_takes_for_its_own_failure(start: Start, tmp_path: Path) -> None:
    """An extension whose import is interrupted says that it can't be imported."""
    (tmp_path / "onnx.py").write_text(
        "import signal\n"
        "try:\n    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt as error:\n    raise ImportError('broken') from error\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with start("export", "x", str(tmp_path / "out"), env=environment) as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (-signal.SIGINT, b"")


def test_the_command_line_imports_nothing_before_it_runs() -> None:
    """So that an interrupt in its first moments finds `main` running."""
    code = (
        "import sys; before = set(sys.modules); import gpt2onnx.cli; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["__future__", "gpt2onnx", "gpt2onnx.cli"]


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


@pytest.mark.parametrize(
    ("given", "closed", "status", "said"),
    [
        (("--help",), "1", 1, "standard output: Bad file descriptor"),
        (("inspect", "FOLDER"), "1", 1, "standard output: Bad file descriptor"),
        (("inspect", "/none"), "2", 2, ""),
        (("inspect", "FOLDER"), "2", 0, ""),
        (("export", "CHECKPOINT", "OUT", "--no-verify"), "2", 0, ""),
        (("export", "CHECKPOINT", "OUT", "--no-verify"), "02", 0, ""),
        (("generate", "--model", "FOLDER"), "0", 2, "no text: give one as an argument, as a file"),
        (("generate", "x", "--model", "FOLDER", "--max-new-tokens", "1"), "012", 1, ""),
    ],
)
def test_closed_streams(
    given: tuple[str, ...],
    closed: str,
    status: int,
    said: str,
    folder: str,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    names = {"FOLDER": folder, "CHECKPOINT": str(checkpoint), "OUT": str(tmp_path / "out")}
    words = [sys.executable, "-m", "gpt2onnx", *(names.get(word, word) for word in given)]
    shut = " ".join(f"{number}>&-" for number in closed)
    ended = subprocess.run(
        ["sh", "-c", f"{shlex.join(words)} {shut}"], capture_output=True, check=False, text=True
    )
    assert ended.returncode == status
    assert ended.stderr.startswith(f"gpt2onnx: error: {said}" if said else "")
    assert ended.stderr.count("\n") == bool(said)
    if "export" in given:
        assert (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_messages_that_nobody_can_get(folder: str) -> None:
    command = (sys.executable, "-m", "gpt2onnx", "generate", "x", "--max-new-tokens", "1")
    for more, status in ((("--model", folder, "--stats"), 0), (("--model", "/none"), 2)):
        with Path("/dev/full").open("wb") as full:
            ended = subprocess.run([*command, *more], stderr=full, check=False)
        assert ended.returncode == status


def test_files_that_the_system_limits(folder: str, checkpoint: Path, tmp_path: Path) -> None:
    """A size (EFBIG) and a number (EMFILE), by the shell's ulimit."""
    place = tmp_path / "out"
    export = ("export", str(checkpoint), str(place), "--no-verify")
    trace = ("trace", "x", "--model", folder, "--html", str(place), "--max-new-tokens", "2")
    for call, limit in ((export, "-f 20"), (trace, "-f 1")):
        words = shlex.join([sys.executable, "-B", "-m", "gpt2onnx", *call])
        ended = subprocess.run(
            ["sh", "-c", f"ulimit {limit}; {words}"], capture_output=True, check=False, text=True
        )
        assert ended.returncode == 1
        assert ended.stderr.startswith("gpt2onnx: error: ")
        assert "File too large" in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert list(tmp_path.iterdir()) == []


def test_a_prompt_from_a_pipe_that_has_a_name(folder: str) -> None:
    words = shlex.join([sys.executable, "-m", "gpt2onnx", "score", "--model", folder, "--file"])
    ended = subprocess.run(
        ["bash", "-c", f"{words} <(echo text)"], capture_output=True, check=False, text=True
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "expected a file, found a pipe; - reads standard input" in ended.stderr


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


def test_a_greedy_text_needs_neither_random_numbers_nor_other_strategies(folder: str) -> None:
    decoding = ("beams", "contrastive", "drafters", "guidance", "lookahead.lookahead")
    others = [f"gpt2onnx.runtime.decoding.{name}" for name in (*decoding, "speculation")]
    unused = ["numpy.random", *others, "gpt2onnx.runtime.engine.prefix_cache"]
    arguments = ["generate", "hello", "--model", folder, "--max-new-tokens", "2"]
    assert loaded(",".join(unused), arguments) == ""


def test_starting_looks_for_no_garbage(folder: str) -> None:
    """But for what Python itself does before it is told; otherwise seventy times."""
    arguments = ("generate", "hello", "--model", folder, "--max-new-tokens", "1")
    command = [sys.executable, "-c", COLLECTED, *arguments]
    out = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert int(out.splitlines()[-1]) < 10


def test_evaluating_needs_neither_pytorch_nor_the_export(folder: str, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("some text")
    asked = "onnxruntime,torch,transformers,onnx,optimum,safetensors,huggingface_hub,tqdm"
    arguments = ["eval", folder, "--text", str(text), "--reference", folder]
    assert loaded(asked, arguments) == "onnxruntime"
