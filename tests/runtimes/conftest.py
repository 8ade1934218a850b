"""The bundled model, exported for the runtimes that it is tried on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import gpt2onnx
from gpt2onnx.demo import CHECKPOINT


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], Path]:
    """The bundled model's folder for a runtime, with a graph, in a precision."""
    root = tmp_path_factory.mktemp("models")

    def make(runtime: str, graph: str, precision: str) -> Path:
        options = {"runtime": runtime, "graph": graph, "precision": precision, "verify": False}
        out = root / f"{runtime}-{graph}-{precision}"
        return out if out.exists() else gpt2onnx.export(CHECKPOINT, out, **options).folder

    return make
