from __future__ import annotations

from pathlib import Path

import pytest

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.checkpoint.tensors import open_tensors
from tests.raising import raises

INDEX = "model.safetensors.index.json"


def test_no_weights_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "tf_model.h5").touch()
    with pytest.raises(
        WeightsError, match=r"pytorch_model\.bin.* found tf_model\.h5; load weights"
    ):
        open_tensors(tmp_path)


def test_a_git_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 548105171\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(WeightsError, match="git lfs pull"):
        open_tensors(tmp_path)


def test_an_unreadable_index_tells_the_place(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text('{"weight_map":\n  oops}')
    with raises(WeightsError, path=tmp_path / INDEX):
        open_tensors(tmp_path)
