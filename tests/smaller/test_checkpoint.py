"""A checkpoint that is written, read by the export and by the safetensors library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gpt2onnx.errors import OutputExistsError, WeightsError
from gpt2onnx.export.checkpoint.checkpoint import Arrays
from gpt2onnx.smaller.checkpoint import (
    NewCheckpoint,
    json_bytes,
    open_source,
    tokenizer_files,
    weights_bytes,
    with_options,
)
from tests.checkpoints import make_checkpoint
from tests.raising import raises


def copied(source: Path) -> NewCheckpoint:
    checkpoint = open_source(source)
    return NewCheckpoint(
        checkpoint,
        checkpoint.dtype,
        checkpoint.config_json,
        checkpoint.generation_config,
        tokenizer_files(checkpoint.folder),
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("tied", [True, False])
def test_a_copy_has_the_same_tensors_and_files(tmp_path: Path, tied: bool) -> None:
    source = make_checkpoint(tmp_path / "source", tie_word_embeddings=tied)
    copied(source).write(tmp_path / "copy")
    before, after = (
        load_file(tmp_path / name / "model.safetensors") for name in ("source", "copy")
    )
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert files(source).keys() == files(tmp_path / "copy").keys()
    for name, content in files(source).items():
        if name.endswith(".json"):
            assert json.loads(content) == json.loads(files(tmp_path / "copy")[name])
    open_source(tmp_path / "copy")


def test_a_copy_has_the_stored_type(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source")
    weights = {
        name: values.astype(np.float16)
        for name, values in load_file(source / "model.safetensors").items()
    }
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    checkpoint = open_source(source)
    copied(source).write(tmp_path / "copy")
    for name, values in load_file(tmp_path / "copy" / "model.safetensors").items():
        assert values.dtype == np.float16
        assert np.array_equal(values, weights[name])
    size = (tmp_path / "copy" / "model.safetensors").stat().st_size
    assert size - 8 - 10_000 < weights_bytes(checkpoint.config, "F16") < size


def test_several_types_become_float32(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source")
    weights = load_file(source / "model.safetensors")
    weights["transformer.wpe.weight"] = weights["transformer.wpe.weight"].astype(np.float16)
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    assert open_source(source).dtype == "F32"


def test_an_existing_place_is_left_alone(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with raises(OutputExistsError, path=tmp_path / "out"):
        copied(source).write(tmp_path / "out")
    assert files(tmp_path / "out") == {"mine": b"mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out"}


@pytest.mark.parametrize(("dtype", "value"), [("F16", 1e5), ("BF16", 3.4e38)])
def test_numbers_beyond_the_type_leave_nothing(tmp_path: Path, dtype: str, value: float) -> None:
    checkpoint = open_source(make_checkpoint(tmp_path / "source"))
    tensors = {name: checkpoint.tensor(name) for name in checkpoint._shapes}
    tensors["ln_f.bias"] = np.full(32, value, np.float32)
    made = NewCheckpoint(
        Arrays(checkpoint.config, tensors), dtype, checkpoint.config_json, None, {"a": b""}
    )
    with pytest.raises(WeightsError, match=rf"ln_f\.bias: its numbers leave the range of {dtype}"):
        made.write(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_other_options_win_over_their_other_names() -> None:
    config = with_options({"num_hidden_layers": 12, "n_layer": 6, "n_head": 2}, n_layer=3)
    assert config == {"n_layer": 3, "n_head": 2, "architectures": ["GPT2LMHeadModel"]}


def test_json_is_readable() -> None:
    assert json_bytes({"a": "Ġ"}) == '{\n  "a": "Ġ"\n}\n'.encode()
