"""benchmarks.quality: the text that it measures on, and where it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers

from benchmarks import quality
from gpt2onnx.demo import CHECKPOINT, HELD_OUT

ROOT = Path(__file__).parents[2]


def test_every_module_has_its_share() -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    modules = quality.held_out_modules()
    # Later Pythons have lost some: distutils, lib2to3.
    assert len(HELD_OUT.read_text().split()) >= len(modules) >= 15
    ids = quality.held_out_ids(tokenizer, 2000)
    assert 2000 <= len(ids) <= 2000 + 2 * len(modules)
    assert ids.count(tokenizer.token_to_id("<|endoftext|>")) == len(modules)


@pytest.mark.parametrize("name", ["demo", "outliers"])
def test_the_document_has_its_places(tmp_path: Path, name: str) -> None:
    document = tmp_path / "quantization.md"
    document.write_text((ROOT / "docs" / "quantization.md").read_text(encoding="utf-8"))
    for text in ("| first |\n", "| second |\n"):
        quality.replace(document, name, text)
    lines = document.read_text(encoding="utf-8").splitlines()
    begin = lines.index(f"<!-- {name}: written by benchmarks.quality -->")
    assert lines[begin + 1 : begin + 5] == ["", "| second |", "", f"<!-- {name}: end -->"]


def test_a_document_without_the_place(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("nothing")
    with pytest.raises(SystemExit, match="expected the lines <!-- demo: written by"):
        quality.replace(tmp_path / "other.md", "demo", "text")
