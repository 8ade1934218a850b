"""Where the text of a command comes from; `generate` and `score` stand for all."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2onnx import files
from tests.cli.conftest import Run

Fill = Callable[[bytes], None]


@pytest.fixture
def prompt_of(run: Run, folder: str) -> Callable[..., str]:
    """What `generate` took as its prompt; a token of the test model is a byte."""

    def prompt_of(*given: object) -> str:
        status, out, err = run(
            "generate", *given, "--model", folder, "--json", "--max-new-tokens", 1
        )
        assert (status, err) == (0, "")
        return json.loads(out)["prompt_token_ids"]

    return prompt_of


def test_argument_file_and_standard_input_are_alike(
    prompt_of: Callable[..., str], tmp_path: Path, standard_input: Fill
) -> None:
    text = "héllo\n world"
    (tmp_path / "prompt").write_text(text, encoding="utf-8")
    argument = prompt_of(text)
    assert len(argument) == len(text.encode())
    assert prompt_of("--prompt-file", tmp_path / "prompt") == argument
    for dash in ((), ("-",), ("--prompt-file", "-")):
        standard_input(text.encode())
        assert prompt_of(*dash) == argument


@pytest.mark.parametrize(
    ("content", "prompt"),
    [(b"ab\n", "ab"), (b"ab\r\n", "ab"), (b"ab\n\n", "ab\n"), (b"\nab", "\nab"), (b"ab ", "ab ")],
)
def test_one_newline_at_the_end_of_a_file_is_no_prompt(
    prompt_of: Callable[..., str], standard_input: Fill, content: bytes, prompt: str
) -> None:
    standard_input(content)
    assert prompt_of() == prompt_of(prompt)


def test_an_argument_counts_to_its_last_newline(prompt_of: Callable[..., str]) -> None:
    assert len(prompt_of("ab\n")) == 3


def test_a_scored_text_counts_to_its_last_newline(
    run: Run, folder: str, tmp_path: Path, standard_input: Fill
) -> None:
    (tmp_path / "text").write_bytes(b"ab\r\n")
    argument = run("score", "ab\r\n", "--model", folder)
    assert "tokens 4" in argument[1]
    assert run("score", "--file", tmp_path / "text", "--model", folder) == argument
    standard_input(b"ab\r\n")
    assert run("score", "--model", folder) == argument


def test_an_argument_hides_standard_input(
    prompt_of: Callable[..., str], standard_input: Fill
) -> None:
    standard_input(b"other")
    assert len(prompt_of("ab")) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("text", "--prompt-file", "f"), "two texts: an argument, and the file f; leave one out"),
        (("--prompt-file", "/no/such"), "/no/such: No such file or directory"),
        (("--prompt-file", "/"), "/: expected a file, found a folder"),
        (("--prompt-file", "/dev/zero"), "/dev/zero: expected a file, found a device"),
        (("--prompt-file", "x" * 301), f"{'x' * 140}…{'x' * 140}: File name too long"),
    ],
)
def test_mistakes(run: Run, given: tuple[str, ...], message: str) -> None:
    assert run("generate", *given) == (2, "", f"gpt2onnx: error: {message}\n")


def test_what_is_not_utf8(run: Run, tmp_path: Path, standard_input: Fill) -> None:
    content = b"caf\xe9"
    (tmp_path / "latin1").write_bytes(content)
    standard_input(content)
    for name, given in {
        str(tmp_path / "latin1"): ("--prompt-file", tmp_path / "latin1"),
        "standard input": (),
    }.items():
        said = "expected UTF-8, found something else: byte 3 is 0xe9"
        assert run("generate", *given) == (2, "", f"gpt2onnx: error: {name}: {said}\n")


def test_what_is_utf16(run: Run, tmp_path: Path, standard_input: Fill) -> None:
    for encoding in ("utf-16", "utf-16-be"):
        content = "\ufeffcafé" if encoding == "utf-16-be" else "café"
        (tmp_path / "text").write_text(content, encoding=encoding)
        standard_input(content.encode(encoding))
        for given in (("--prompt-file", tmp_path / "text"), ()):
            status, _, err = run("generate", *given)
            assert status == 2
            assert err.endswith(": expected UTF-8, found UTF-16; save it as UTF-8\n")


def test_a_byte_order_mark_is_no_part_of_a_file(
    run: Run,
    folder: str,
    prompt_of: Callable[..., str],
    tmp_path: Path,
    standard_input: Fill,
) -> None:
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    plain.write_text("some text", encoding="utf-8")
    marked.write_text("some text", encoding="utf-8-sig")
    assert prompt_of("--prompt-file", marked) == prompt_of("--prompt-file", plain)
    standard_input(marked.read_bytes())
    assert prompt_of() == prompt_of("some text")
    for call in (("score", "--model", folder, "--file"), ("eval", folder, "--text")):
        assert run(*call, marked) == run(*call, plain)
    assert len(prompt_of("\ufeffa")) == 4  # in an argument it was meant


def test_what_is_too_large(
    run: Run, tmp_path: Path, standard_input: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused unread: the file takes no room on the disk."""
    with (tmp_path / "text").open("wb") as file:
        file.truncate(10**12)
    status, _, err = run("generate", "--prompt-file", tmp_path / "text")
    assert status == 2
    assert err.endswith(": expected at most 100,000,000 bytes, found 1,000,000,000,000\n")
    monkeypatch.setattr(files, "MAX_TEXT_BYTES", 10)
    standard_input(b"x" * 11)
    said = "gpt2onnx: error: standard input: expected at most 10 bytes, found more\n"
    assert run("generate") == (2, "", said)


def test_a_pipe_is_not_waited_for(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for call in (("generate", "--prompt-file"), ("score", "--file"), ("eval", "x", "--text")):
        status, _, err = run(*call, tmp_path / "pipe")
        assert status == 2
        assert err.endswith("pipe: expected a file, found a pipe; - reads standard input\n")


@pytest.mark.parametrize("closed", [False, True])
def test_a_terminal_is_not_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    class Terminal:
        closed = False

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", None if closed else Terminal())
    for command in ("generate", "trace", "score"):
        status, _, err = run(command)
        assert status == 2
        assert err == (
            "gpt2onnx: error: no text: give one as an argument, as a file or on standard input\n"
        )
