"""Write gpt2onnx/samplers/params/keywords.py: the table of parameters as keywords for editors."""

from __future__ import annotations

from pathlib import Path

from gpt2onnx.samplers.params import keywords
from gpt2onnx.samplers.params.table import ParameterTable

FILE = Path(keywords.__file__)
HEAD = '''\
"""The keywords of `generate` and `stream`, for editors and type checkers.

Each is a field of GenerationParams with its type, or None, which takes the model's own default
away. What each means and may be stands in `table`, of which `scripts/keywords.py` writes this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from gpt2onnx.samplers.penalties import AllowedTokens
from gpt2onnx.samplers.stopping import StopFn


class GenerationKeywords(TypedDict, total=False):
    """All of them, in the order of `gpt2onnx generate --help`."""

'''


def module() -> str:
    fields = ParameterTable.__annotations__.items()
    return HEAD + "".join(f"    {name}: {keyword(kind)}\n" for name, kind in fields)


def keyword(kind: str) -> str:
    """A field's type as it is written, or None."""
    return kind.replace("'", '"').removesuffix(" | None") + " | None"


if __name__ == "__main__":
    FILE.write_text(module(), encoding="utf-8")
