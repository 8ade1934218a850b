from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gpt2onnx.errors import ParameterError, StorageError
from gpt2onnx.export.cached import CachedExports
from tests.raising import raises


def test_an_export_is_made_once_and_again_for_other_weights(
    checkpoint: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(checkpoint, tmp_path / "own")
    first = CachedExports(own)
    folder = first("int8", "cpu")
    made = (folder / "model.onnx").stat().st_mtime_ns
    assert CachedExports(own)("int8", "cpu") == folder
    assert (folder / "model.onnx").stat().st_mtime_ns == made
    assert first("fp32", "cpu") != folder
    os.utime(own / "config.json", ns=(1, 1))
    assert CachedExports(own)("int8", "cpu") != folder


def test_what_the_fused_graph_cannot_do_is_said(checkpoint: Path) -> None:
    with raises(ParameterError, parameters={"precision": "int8-dynamic", "device": "cuda"}):
        CachedExports(checkpoint)("int8-dynamic", "cuda")


@pytest.mark.parametrize("cache", ["file", "x" * 300])
def test_a_cache_that_cannot_be_written(
    cache: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / cache))
    with pytest.raises(StorageError, match=f"{cache}: no cache can be made .*; set GPT2ONNX_CACHE"):
        CachedExports(checkpoint)("fp32", "cpu")
