"""Tensors beside those that transformers loads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.checkpoint.tensors import open_tensors
from tests.export.checkpoint.test_tensors import INDEX
from tests.torch_checkpoints import Format, random_model, save_checkpoint


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize("format", ["safetensors", "sharded", "bin", "sharded-bin"])
def test_every_format_holds_the_same_tensors(tmp_path: Path, format: Format) -> None:
    tensors = open_tensors(save_checkpoint(tmp_path, format=format, tokenizer=False))
    expected = random_model().state_dict()
    del expected["lm_head.weight"]
    assert tensors.names() == expected.keys()
    for name, tensor in expected.items():
        assert tensors.shape(name) == tuple(tensor.shape)
        assert tensors.file(name).is_file()
        np.testing.assert_array_equal(tensors.read(name), tensor.numpy())
    assert len({tensors.file(name) for name in expected}) == (5 if "sharded" in format else 1)


def test_the_same_choice_as_transformers_where_there_are_several(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    assert open_tensors(tmp_path).read("x") == 0
    save_file({"x": torch.ones(1)}, tmp_path / "shard.safetensors")
    write_index(tmp_path, {"x": "shard.safetensors"})
    assert open_tensors(tmp_path).read("x") == 1
    save_file({"x": torch.full((1,), 2.0)}, tmp_path / "model.safetensors")
    assert open_tensors(tmp_path).read("x") == 2


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        (None, "expected a weight_map"),
        ({"x": "lost.safetensors"}, r"lost\.safetensors: No such file"),
        ({"x": "../shard.safetensors"}, "expected the name of a file beside it, found '../shard"),
        ({"x": 3}, "expected the name of a file beside it, found 3"),
        ({"x": "shard.safetensors", "y": "shard.safetensors"}, "expected y in shard"),
    ],
)
def test_an_index_that_does_not_fit(tmp_path: Path, weight_map: object, message: str) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "shard.safetensors")
    write_index(tmp_path, weight_map)
    with pytest.raises(WeightsError, match=message):
        open_tensors(tmp_path)
