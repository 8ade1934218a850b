"""What the suite leaves out, and where: without PyTorch, and with --fast."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import LONG, TESTS

# Imports of them need PyTorch as well.
NEED_IT = {"tests.torch_checkpoints", "tests.export.logits", "tests.export.rounded_attention"}
HEAVY = {"torch", "transformers", "optimum"}
# In environments of their own, where they are.
ELSEWHERE = {TESTS / "runtimes" / "test_folders.py"}


@pytest.mark.parametrize(
    "file",
    [f for f in TESTS.rglob("test_*.py") if not f.stem.endswith("_torch") and f not in ELSEWHERE],
    ids=lambda file: str(file.relative_to(TESTS)),
)
def test_what_needs_pytorch_is_named_so(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & HEAVY
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert module.split(".")[0] not in HEAVY
            assert module not in NEED_IT
            assert not module.endswith("_torch")
            assert module != "safetensors.torch"
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            assert "reference" not in {each.arg for each in node.args.args}


@pytest.mark.parametrize("name", LONG)
def test_what_takes_long_is_there(name: str) -> None:
    """A file that was moved would run with --fast."""
    assert (TESTS / name).exists()


def test_the_words_of_a_message_are_compared_in_one_file() -> None:
    """Five in a row. Other files ask for the error's type and its fields: tests/raising.py."""
    compared: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for file in TESTS.rglob("test_*.py"):
        for text in patterns(ast.parse(file.read_text(encoding="utf-8"))):
            words = re.findall(r"[A-Za-z_']+", text.replace("\\", ""))
            for at in range(len(words) - 4):
                compared[tuple(words[at : at + 5])].add(str(file.relative_to(TESTS)))
    assert {" ".join(words): files for words, files in compared.items() if len(files) > 1} == {}


def patterns(tree: ast.AST) -> Iterator[str]:
    """The text that stands behind `match=`."""
    for call in ast.walk(tree):
        for keyword in call.keywords if isinstance(call, ast.Call) else ():
            if keyword.arg == "match":
                for part in ast.walk(keyword.value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value
