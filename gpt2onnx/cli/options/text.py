"""The text that a command works on: an argument, a file, or standard input."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpt2onnx import files
from gpt2onnx.cli.parser import Parser, utf8
from gpt2onnx.cli.streams import is_terminal
from gpt2onnx.errors import PromptError

STDIN = "-"


def add_text(parser: Parser, name: str, file_option: str) -> None:
    parser.add_argument(
        "text",
        nargs="?",
        metavar=name,
        type=utf8,
        help="a text; - or nothing reads standard input",
    )
    parser.add_argument(
        file_option, dest="file", metavar="FILE", help="read the text from a file in UTF-8"
    )


def add_texts(parser: Parser) -> None:
    """Texts that say what is to come, of which there must be one."""
    parser.add_argument(
        "--text",
        dest="texts",
        metavar="FILE",
        nargs="+",
        required=True,
        help="texts like those to come, files in UTF-8; - reads standard input",
    )


def read_text(args: argparse.Namespace) -> str:
    """The text, exactly. Raises PromptError where there is none, or two, or it can't be read."""
    if args.text is not None and args.file is not None:
        raise PromptError(f"two texts: an argument, and the file {args.file}; leave one out")
    if args.text is not None and args.text != STDIN:
        return str(args.text)
    return read_file(STDIN if args.file is None else args.file)


def read_file(file: str) -> str:
    """The text in a file, - for standard input; a byte order mark is no part of it.

    Raises PromptError where it can't be read, is too large, or isn't UTF-8.
    """
    if file == STDIN:
        return files.decoded(_standard_input(), "standard input", PromptError)
    path = files.as_path(file, "file", PromptError)
    with files.path_errors(path, PromptError):
        is_pipe = path.is_fifo()
    if is_pipe:
        raise PromptError(f"{file}: expected a file, found a pipe; - reads standard input")
    return files.read_text(path, PromptError, files.MAX_TEXT_BYTES)


def read_prompt(args: argparse.Namespace) -> str:
    """As `read_text`, without the newline that editors and echo put at the end of a file."""
    text = read_text(args)
    return text if args.text not in (None, STDIN) else text.removesuffix("\n").removesuffix("\r")


def _standard_input() -> bytes:
    if sys.stdin is None or is_terminal(sys.stdin):
        raise PromptError("no text: give one as an argument, as a file or on standard input")
    most = files.MAX_TEXT_BYTES
    with files.path_errors(Path("standard input"), PromptError):
        content = sys.stdin.buffer.read(most + 1)
    if len(content) > most:
        raise PromptError(f"standard input: expected at most {most:,} bytes, found more")
    return content
