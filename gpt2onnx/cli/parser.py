"""The argument parser of every command: one-line errors, examples, parameters by their options.

Knows argparse; knows no command.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from gpt2onnx.cli.failures import shortened
from gpt2onnx.errors import one_line

# A name, alone or with what it is set to; not a part of a path, nor a value in quotation marks.
_PARAMETER = re.compile(
    r"(?<![\w/.'-])([a-z][a-z\d]*(?:_[a-z\d]+)*)(=(?:True|False)?|\b(?![/.]\w))"
)


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

    def in_options(self, message: str) -> str:
        """A message of the library with its parameters as options: top_k=0 as --top-k 0.

        A parameter of one word is taken for one only where it has a value.
        """
        options = {a.dest: a.option_strings for a in self._actions if a.option_strings}

        def option(match: re.Match[str]) -> str:
            name, value = match.groups()
            if name not in options or not (value or "_" in name):
                return match[0]
            negated = value == "=False"
            spellings = [o for o in options[name] if o.startswith("--no-") == negated]
            return spellings[0] + (" " if value == "=" else "") if spellings else match[0]

        return _PARAMETER.sub(option, message)


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
