"""scripts/quality.py: the text that it measures on, and where it writes."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from gpt2onnx.demo import CHECKPOINT, HELD_OUT

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        return runpy.run_path(str(ROOT / "scripts" / "quality.py"))


def test_every_module_has_its_share(script: dict[str, Any]) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    modules = script["held_out_modules"]()
    # Later Pythons have lost some: distutils, lib2to3.
    assert len(HELD_OUT.read_text().split()) >= len(modules) >= 15
    ids = script["held_out_ids"](tokenizer, 2000)
    assert 2000 <= len(ids) <= 2000 + 2 * len(modules)
    assert ids.count(tokenizer.token_to_id("<|endoftext|>")) == len(modules)


@pytest.mark.parametrize("name", ["demo", "outliers"])
def test_the_document_has_its_places(script: dict[str, Any], tmp_path: Path, name: str) -> None:
    document = tmp_path / "quantization.md"
    document.write_text((ROOT / "docs" / "quantization.md").read_text(encoding="utf-8"))
    for text in ("| first |\n", "| second |\n"):
        script["replace"](document, name, text)
    lines = document.read_text(encoding="utf-8").splitlines()
    begin = lines.index(f"<!-- {name}: written by scripts/quality.py -->")
    assert lines[begin + 1 : begin + 5] == ["", "| second |", "", f"<!-- {name}: end -->"]


def test_a_document_without_the_place(script: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("nothing")
    with pytest.raises(SystemExit, match="expected the lines <!-- demo: written by"):
        script["replace"](tmp_path / "other.md", "demo", "text")
