"""Tests that need PyTorch stand in files of their own: a machine without it runs all others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
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
def test_no_other_file_needs_it(file: Path) -> None:
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
