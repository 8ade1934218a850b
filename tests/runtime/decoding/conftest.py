"""A model that tells hidden states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import gpt2onnx
from gpt2onnx import Model


@pytest.fixture(scope="module")
def _hiding(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    out = tmp_path_factory.mktemp("hiding") / "model"
    made = gpt2onnx.export(checkpoint, out, precision="fp32", with_hidden_states=True)
    return gpt2onnx.load(made.folder, threads=1)


@pytest.fixture
def hiding(_hiding: Model) -> Iterator[Model]:
    """`checkpoint` in fp32 with hidden states. A test must give back every row."""
    yield _hiding
    assert _hiding.decoder.cache.rows == []  # type: ignore[attr-defined]
