"""The reference's logits beside transformers'."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.errors import CheckpointError, InstallationError
from gpt2onnx.reference import open_reference
from tests.conftest import torch_model
from tests.raising import raises


def test_the_bundled_checkpoint() -> None:
    reference = open_reference("demo")
    ids = reference.to_score("def main():\n    return 0\n", True)
    assert reference.name == "demo"
    pieces, logits = zip(*reference.walk(ids, None), strict=True)
    assert [piece.stop for piece in pieces] == [len(ids)]
    with torch.inference_mode():
        expected = torch_model(CHECKPOINT)(torch.tensor(ids)[None]).logits[0]
    np.testing.assert_allclose(np.concatenate(logits), expected, atol=1e-4)


def test_windows_are_the_runtimes(checkpoint: Path, models: Callable[[str], Path]) -> None:
    ids = np.random.default_rng(0).integers(0, 256, 300)
    mine, others = (open_reference(path).walk(ids, 40) for path in (models("fp32"), checkpoint))
    for (piece, logits), (other, expected) in zip(mine, others, strict=True):
        assert piece == other
        np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    with pytest.raises(InstallationError, match=f"demo as a reference needs {package}: pip inst"):
        open_reference("demo")


def test_neither_model_nor_checkpoint(tmp_path: Path) -> None:
    with raises(CheckpointError, path=tmp_path, name="config.json"):
        open_reference(tmp_path)
    with raises(CheckpointError, path=tmp_path / "nothing"):
        open_reference(tmp_path / "nothing")
