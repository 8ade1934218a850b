"""The text that a command works on: an argument, a file, or standard input."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpt2onnx.cli.parser import Parser
from gpt2onnx.errors import PromptError

STDIN = "-"


def add_text(parser: Parser, name: str, file_option: str) -> None:
    parser.add_argument(
        "text",
        nargs="?",
        metavar=name,
        help="a text; - or nothing reads standard input",
    )
    parser.add_argument(
        file_option, dest="file", metavar="FILE", help="read the text from a file in UTF-8"
    )


def read_text(args: argparse.Namespace) -> str:
    """The text, exactly. Errors: PromptError where there is none, or two, or it can't be read."""
    if args.text is not None and args.file is not None:
        raise PromptError(f"two texts: an argument, and the file {args.file}; leave one out")
    if args.text is not None and args.text != STDIN:
        text: str = args.text
        return text
    return read_file(STDIN if args.file is None else args.file)


def read_file(file: str) -> str:
    """What a file holds, - for standard input. Errors: PromptError where it can't be read."""
    return _decoded(*_read(file))


def read_prompt(args: argparse.Namespace) -> str:
    """As `read_text`, without the newline that editors and echo put at the end of a file."""
    text = read_text(args)
    return text if args.text not in (None, STDIN) else text.removesuffix("\n").removesuffix("\r")


def _read(file: str) -> tuple[bytes, str]:
    """What a file holds, and what to call it."""
    if file != STDIN:
        try:
            return Path(file).read_bytes(), file
        except OSError as error:
            raise PromptError(f"{file}: {error.strerror}") from error
        except MemoryError as error:
            raise PromptError(f"{file}: too large for this machine's memory") from error
    if sys.stdin is None or sys.stdin.isatty():
        raise PromptError("no text: give one as an argument, as a file or on standard input")
    return sys.stdin.buffer.read(), "standard input"


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise PromptError(
            f"{name}: isn't UTF-8: byte {error.start} is 0x{content[error.start]:02x}"
        ) from error
