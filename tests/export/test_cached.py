from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.export.cached import CachedExports


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
    with pytest.raises(ParameterError, match="'int8-dynamic' has no CUDA kernels"):
        CachedExports(checkpoint)("int8-dynamic", "cuda")
