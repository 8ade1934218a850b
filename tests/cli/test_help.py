from __future__ import annotations

import runpy
import shlex
from pathlib import Path

import pytest

from gpt2onnx import cli

ROOT = Path(__file__).parent.parent.parent


def test_the_document_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # the document's own width holds
    monkeypatch.setenv("NO_COLOR", "")
    script = runpy.run_path(str(ROOT / "scripts" / "help.py"))
    assert script["FILE"] == ROOT / "docs" / "help.md"
    assert script["FILE"].read_text(encoding="utf-8") == script["document"](), (
        "run scripts/help.py and commit docs/help.md"
    )


def test_the_document_is_readable_at_80_columns() -> None:
    lines = (ROOT / "docs" / "help.md").read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.startswith("## ")] == [
        "## gpt2onnx",
        *(f"## gpt2onnx {name}" for name in cli.COMMANDS),
    ]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_examples_are_calls_that_can_be_made(name: str) -> None:
    parser = cli.command(name).parser()
    examples = [line for line in parser.epilog.splitlines() if f"gpt2onnx {name}" in line]
    assert examples
    for example in examples:
        words = shlex.split(example.replace("$'", "'").partition(f"gpt2onnx {name}")[2])
        if "|" in words:
            words = words[: words.index("|")]
        if "<" in words:
            del words[words.index("<") : words.index("<") + 2]
        parser.parse_args(words)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    for action in cli.command(name).parser()._actions:
        assert action.help
