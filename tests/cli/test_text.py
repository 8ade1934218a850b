"""Where the text of a command comes from; `generate` and `score` stand for all."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
        (("--prompt-file", "/"), "/: Is a directory"),
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
        message = f"gpt2onnx: error: {name}: isn't UTF-8: byte 3 is 0xe9\n"
        assert run("generate", *given) == (2, "", message)


def test_what_is_too_large(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", read)
    status, _, err = run("generate", "--prompt-file", "f")
    assert (status, err) == (2, "gpt2onnx: error: f: too large for this machine's memory\n")


@pytest.mark.parametrize("closed", [False, True])
def test_a_terminal_is_not_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", None if closed else Terminal())
    for command in ("generate", "trace", "score"):
        status, _, err = run(command)
        assert status == 2
        assert err == (
            "gpt2onnx: error: no text: give one as an argument, as a file or on standard input\n"
        )
