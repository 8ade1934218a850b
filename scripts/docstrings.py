"""For the API reference: what a docstring says of each parameter, as a list.

Our docstrings are prose; a paragraph about parameters has lines that begin with a parameter's name
and a colon. mkdocs.yml names this file, and mkdocstrings runs it.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

import griffe


class ParametersAsList(griffe.Extension):
    """Makes items of the lines that begin with a parameter's name."""

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        if func.docstring:
            names = {parameter.name for parameter in func.parameters}
            func.docstring.value = as_list(func.docstring.value, names)


def as_list(text: str, names: Container[str]) -> str:
    """A docstring in Markdown, in which each parameter's lines are an item."""
    lines, inside = [], False
    for line in text.splitlines():
        named = re.match(r"(\w+): ", line)
        if named and named[1] in names:
            lines += [] if inside else [""]
            inside = True
            lines.append(f"- **{named[1]}**: {line[named.end() :]}")
        else:
            inside = inside and bool(line)
            lines.append(f"  {line}" if inside else line)
    return "\n".join(lines)
