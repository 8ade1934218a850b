"""Write docs/errors.md: each error, when it comes, what to do; of the docstrings in errors.py."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from gpt2onnx import errors
from gpt2onnx.errors import Gpt2OnnxError

FILE = Path(__file__).parent.parent / "docs" / "errors.md"
HEAD = """\
# Errors

Written by `scripts/errors.py` of the docstrings in `gpt2onnx/errors.py`: when each error comes, and
what to do then. All are in `gpt2onnx.errors`; catching one catches those below it as well. A
message is one line, with what was expected, what came and what to do. The command line prints it on
standard error and ends with the exit status: 2 where the call can be mended, 1 where the machine or
the network failed. Whatever else is raised is a bug, and worth a report.
"""


def document() -> str:
    found = list(family(Gpt2OnnxError))
    tree = "\n".join(f"{'  ' * depth}{error.__name__}" for depth, error in found)
    sections = [section(error) for _, error in found]
    return "\n".join([HEAD, f"```text\n{tree}\n```\n", *sections])


def family(error: type[Gpt2OnnxError], depth: int = 0) -> Iterator[tuple[int, type[Gpt2OnnxError]]]:
    """An error and those below it, in the order of the module, each with its depth in the tree."""
    yield depth, error
    for each in vars(errors).values():
        if isinstance(each, type) and error in each.__bases__:
            yield from family(each, depth + 1)


def section(error: type[Gpt2OnnxError]) -> str:
    kinds = [each.__name__ for each in error.__bases__ if each is not Exception]
    a = "A kind of " + " and ".join(f"`{kind}`" for kind in kinds) + "; e" if kinds else "E"
    text = inspect.getdoc(error)
    return f"## {error.__name__}\n\n{text}\n\n{a}xit status {error.exit_status}.\n"


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
