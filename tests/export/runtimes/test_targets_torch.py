"""A padded batch in other runtimes' layouts beside transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import gpt2onnx
from tests.checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    root = tmp_path_factory.mktemp("models")

    def make(runtime: str, precision: str = "int8") -> Path:
        out = root / f"{runtime}-{precision}"
        options = {"runtime": runtime, "precision": precision, "verify": False}
        return out if out.exists() else gpt2onnx.export(checkpoint, out, **options).folder

    return make


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_padded_batch_gives_each_rows_own_logits(
    precision: str, side: str, exported: Callable[..., Path]
) -> None:
    from tests.export.graph.test_portable_torch import padded_batch_is_right

    padded_batch_is_right(exported("genai", precision), precision, side)
