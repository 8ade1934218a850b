"""Write docs/help.md: the help of every command."""

from __future__ import annotations

import os
from pathlib import Path

from gpt2onnx import cli

FILE = Path(__file__).parent.parent / "docs" / "help.md"


def document() -> str:
    """All commands' help, 80 columns wide whatever the terminal's width."""
    os.environ |= {"COLUMNS": "80", "NO_COLOR": "1"}
    parsers = [cli.main_parser(), *(cli.command(name).parser() for name in cli.COMMANDS)]
    sections = [f"## {each.prog}\n\n```\n{each.format_help()}```\n" for each in parsers]
    return "\n".join(["# Commands\n\nWritten by `scripts/help.py`.\n", *sections])


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
