from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gpt2onnx
from gpt2onnx.errors import CorruptModelError
from gpt2onnx.reference import open_reference
from tests.raising import raises


def test_a_model_folder_is_opened_as_asked(models: Callable[[str], Path]) -> None:
    opened: list[str] = []

    def open_model(name: str | Path) -> gpt2onnx.Model:
        opened.append(str(name))
        return gpt2onnx.load(name, threads=1)

    reference = open_reference(str(models("fp32")), open_model)
    assert opened == [reference.name] == [str(models("fp32"))]
    assert (reference.vocab_size, reference.n_positions) == (257, 64)


def test_a_broken_model_folder_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with raises(CorruptModelError, path=tmp_path / "manifest.json"):
        open_reference(tmp_path)
