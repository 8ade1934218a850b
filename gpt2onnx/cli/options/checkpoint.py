"""The checkpoint that a command makes another one of, and where that goes."""

from __future__ import annotations

from gpt2onnx.cli.parser import Parser


def add_checkpoint(parser: Parser, name: str, *, needs_out: bool = True) -> None:
    """`name` is what help calls it; its value is that name in small letters."""
    parser.add_argument(
        name.lower(), metavar=name, help="a folder that transformers wrote, a model id, or demo"
    )
    nargs = None if needs_out else "?"
    parser.add_argument("out", metavar="OUT", nargs=nargs, help="the folder to write")


def add_revision(parser: Parser) -> None:
    parser.add_argument("--revision", metavar="NAME", help="the hub's branch, tag or commit")
