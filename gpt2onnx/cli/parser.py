"""The argument parser of every command: one-line errors, examples, parameters by their options.

Knows argparse; knows no command.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from gpt2onnx.cli.failures import shortened
from gpt2onnx.errors import Given, one_line, shown


class Parser(argparse.ArgumentParser):
    """A command's parser. `usage` are its arguments, without the options."""

    def __init__(self, command: str, usage: str, description: str, examples: Sequence[str]) -> None:
        prog = f"gpt2onnx {command}".strip()
        super().__init__(
            prog=prog,
            usage=f"{prog} {usage} [options]".replace("  ", " "),
            description=description,
            epilog="\n  ".join(["examples:", *examples]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # an option that is added later must not change an old call
        )

    def error(self, message: str) -> NoReturn:
        told = shortened(one_line(message))
        self.exit(2, f"gpt2onnx: error: {told}; see {self.prog} --help\n")

    def option(self, given: Given) -> str:
        """A parameter as this command's option: top_k=0 as --top-k 0.

        One that no option stands for keeps its own name.
        """
        spellings = [o for a in self._actions if a.dest == given.name for o in a.option_strings]
        negated = not given.alone and given.value is False
        fitting = [option for option in spellings if option.startswith("--no-") == negated]
        if not fitting:
            return str(given)
        says_it_all = given.alone or isinstance(given.value, bool)
        return fitting[0] if says_it_all else f"{fitting[0]} {shown(given.value)}"


class Pairs(argparse.Action):
    """An option that may be repeated, each time with a key and a value; all go into one dict."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, None) or {}
        setattr(namespace, self.dest, {**before, values[0]: values[1]})


def utf8(given: str) -> str:
    """The type of an argument that is text, and no path: what isn't UTF-8 is refused."""
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(
            f"expected UTF-8, found something else at character {error.start}"
        ) from None
    return given
