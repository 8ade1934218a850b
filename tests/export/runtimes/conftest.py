"""Folders for other runtimes, of a checkpoint of their own, into which a test writes."""

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
