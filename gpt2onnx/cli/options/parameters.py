"""GenerationParams as options: one for each parameter, with its name and its help.

Knows how each kind of value is written on a command line, and no parameter.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from gpt2onnx.cli.parser import Pairs, Parser, utf8
from gpt2onnx.errors import ParameterError
from gpt2onnx.files import as_path, read_text
from gpt2onnx.samplers.params import PARAMETERS


def _ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected token ids such as 1,2, got {text!r}") from None


def _words(text: str) -> list[list[int]]:
    return [_ids(word) for word in text.split(";")]


def _phrases(text: str) -> list[list[list[int]]]:
    return [[_ids(phrase) for phrase in one.split("|")] for one in text.split(";")]


def _early_stopping(text: str) -> bool | str:
    lower = text.lower()  # messages have Python's True and False
    return {"true": True, "false": False}.get(lower, lower)


def _bias(text: str) -> tuple[int, float]:
    token, _, bias = text.partition("=")
    try:
        return int(token), float(bias)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected ID=X such as 50256=-5, got {text!r}") from None


def _schema(text: str) -> str:
    return text if text.removeprefix("\ufeff").lstrip().startswith("{") else _file(text)


def _grammar(text: str) -> str:
    return text if ":" in text else _file(text)


def _file(path: str) -> str:
    try:
        return read_text(as_path(path, "FILE", ParameterError), ParameterError)
    except ParameterError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _names(text: str) -> list[str]:
    return text.split(",")


# How each kind of value is written.
KINDS: Final[Mapping[str, dict[str, Any]]] = {
    "integer": {"type": int, "metavar": "N"},
    "number": {"type": float, "metavar": "X"},
    "flag": {"action": argparse.BooleanOptionalAction},
    "choice": {"metavar": "NAME"},
    "names": {"type": _names, "metavar": "NAME,NAME"},
    "texts": {"action": "append", "type": utf8, "metavar": "TEXT"},
    "token": {"type": int, "metavar": "ID"},
    "tokens": {"action": "extend", "type": _ids, "metavar": "ID,ID"},
    "words": {"action": "extend", "type": _words, "metavar": "ID,ID;ID"},
    "phrases": {"action": "extend", "type": _phrases, "metavar": "ID,ID|ID;ID"},
    "biases": {"action": Pairs, "type": _bias, "metavar": "ID=X"},
    "early_stopping": {"type": _early_stopping, "metavar": "WHEN"},
    "regex": {"type": utf8, "metavar": "REGEX"},
    "schema": {"type": _schema, "metavar": "FILE"},
    "grammar": {"type": _grammar, "metavar": "FILE"},
}


def add_parameters(parser: Parser) -> None:
    """An option for each parameter that a text can say."""
    group: argparse._ActionsContainer = parser
    for name, each in PARAMETERS.items():
        if each.group:
            group = parser.add_argument_group(each.group)
        if each.kind:
            option = "--" + name.replace("_", "-")
            kind = KINDS[each.kind]
            group.add_argument(option, default=argparse.SUPPRESS, help=each.help, **kind)


def given_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """The parameters that the call gives; the model's own defaults hold for the others."""
    return {name: getattr(args, name) for name in PARAMETERS if hasattr(args, name)}
