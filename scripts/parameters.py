"""Write docs/parameters.md: what generate and stream take, of the table of parameters."""

from __future__ import annotations

from pathlib import Path

from gpt2onnx.samplers.params import PARAMETERS
from gpt2onnx.samplers.params.table import ParameterTable

FILE = Path(__file__).parent.parent / "docs" / "parameters.md"
HEAD = """\
# Parameters

Written by `scripts/parameters.py` of the table in `gpt2onnx/samplers/params/table.py`: what
`Model.generate` and `Model.stream` take by keyword, and the fields of `GenerationParams`. On the
command line each is an option, its name with hyphens; functions are for Python alone. Values that
aren't given come from the model's own generation_config.json. A parameter that needs another one
has no effect without it, and given alone it is an error; of several, one is enough.
"""


def document() -> str:
    lines = [HEAD]
    for name, each in PARAMETERS.items():
        if each.group:
            lines += [f"## {each.group.capitalize()}\n", "| parameter | type | needs | |"]
            lines += ["| --- | --- | --- | --- |"]
        needs = ", ".join(f"`{other}`" for other in each.needs)
        lines.append(f"| `{name}` | `{kind(name)}` | {needs} | {cell(each.help)} |")
        if name == last_of_group(name):
            lines.append("")
    return "\n".join(lines)


def kind(name: str) -> str:
    """A parameter's type as it is written, without None, which means not given."""
    return cell(ParameterTable.__annotations__[name].removesuffix(" | None"))


def last_of_group(name: str) -> str:
    """The last parameter of a parameter's group."""
    names = list(PARAMETERS)
    behind = names[names.index(name) + 1 :]
    begins = next((i for i, other in enumerate(behind) if PARAMETERS[other].group), len(behind))
    return [name, *behind[:begins]][-1]


def cell(text: str) -> str:
    """A text in a cell of a table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
