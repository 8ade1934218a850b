from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from huggingface_hub import constants

from gpt2onnx.errors import (
    CheckpointError,
    HubError,
    UnsupportedConfigError,
    WeightsError,
)
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from tests.checkpoints import make_checkpoint
from tests.export.fake_hub import COMMIT, serve
from tests.raising import raises


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_the_files_of_a_checkpoint(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, n_layer=1)
    checkpoint = open_checkpoint(str(folder))
    assert (checkpoint.source, checkpoint.revision) == (str(folder), None)
    assert checkpoint.config.n_layer == checkpoint.config_json["n_layer"] == 1
    assert checkpoint.generation_config is not None
    assert checkpoint.generation_config["eos_token_id"] == 256
    assert checkpoint.tokenizer.encode("ab").ids == [64, 65]
    (folder / "generation_config.json").unlink()
    assert open_checkpoint(folder).generation_config is None


def test_layers_beyond_the_configs(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    change_config(folder, n_layer=1)
    with pytest.raises(WeightsError, match=r"expected 1 layers, .* found transformer\.h\.1\."):
        open_checkpoint(folder).check()


@pytest.mark.parametrize("n_layer", [3, 10**9, 10**400])
def test_more_layers_than_there_are(tmp_path: Path, n_layer: int) -> None:
    folder = make_checkpoint(tmp_path)
    change_config(folder, n_layer=n_layer)
    with pytest.raises(WeightsError, match=r"layers, as config.json .* found tensors of 2"):
        open_checkpoint(folder).check()


@pytest.mark.parametrize(
    ("name", "number", "contradicted"),
    [
        ("n_positions", 10**12, "transformer.wpe.weight"),
        ("n_positions", 10**400, "transformer.wpe.weight"),
        ("vocab_size", 10**12, "transformer.wte.weight"),
        ("n_embd", 10**12, "transformer.wte.weight"),
        ("n_embd", 4 * 10**400, "transformer.wte.weight"),
        ("n_inner", 10**12, "transformer.h.0.mlp.c_fc.weight"),
        ("n_head", 10**12, "n_embd"),
        ("n_head", 10**400, "n_embd"),
    ],
)
def test_numbers_that_the_tensors_contradict(
    tmp_path: Path, name: str, number: int, contradicted: str
) -> None:
    folder = make_checkpoint(tmp_path)
    change_config(folder, **{name: number})
    error = UnsupportedConfigError if name == "n_head" else WeightsError
    with raises(error, name=contradicted):
        open_checkpoint(folder).check()


@pytest.mark.parametrize(
    "source",
    [None, 3, b"x", [], "", "a\0b", "\ud800", "x" * 5000, "a/" * 3000, "x" * 90 + "/y" * 9],
)
def test_sources_that_are_no_path(source: Any) -> None:
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(source)
    assert len(str(raised.value)) < 1000


def test_what_the_system_says_is_an_error_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint(tmp_path)

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", fail)
    with raises(CheckpointError, path=folder / "config.json"):
        open_checkpoint(folder)
    monkeypatch.setattr(Path, "is_dir", fail)
    with raises(CheckpointError, path=folder):
        open_checkpoint(folder)


def test_a_tensor_of_another_shape(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    change_config(folder, n_positions=32)
    checkpoint = open_checkpoint(folder)
    message = r"model\.safetensors: expected transformer\.wpe.* \[32, 32\], .* found \[64, 32\]"
    with pytest.raises(WeightsError, match=message):
        checkpoint.check()
    with raises(WeightsError, name="transformer.wpe.weight"):
        checkpoint.tensor("wpe.weight")


def test_truncated_weights(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with raises(WeightsError, path=weights, name=None):
        open_checkpoint(folder)


def test_an_adapter(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedConfigError, match="export that one, with adapter='"):
        open_checkpoint(folder)


def test_sources_that_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        open_checkpoint(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file; give the folder"):
        open_checkpoint(tmp_path / "file")
    for source in (tmp_path / "lost", str(tmp_path / "lost"), "./lost", "~/lost", Path("gpt2")):
        with pytest.raises(CheckpointError, match="no such folder"):
            open_checkpoint(source)


def test_revision_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no revision 'main'"):
        open_checkpoint(make_checkpoint(tmp_path), "main")


@pytest.mark.parametrize("content", ["", '{\n  "n_embd": 32,\n}', "3", "\xff"])
def test_unreadable_config(tmp_path: Path, content: str) -> None:
    folder = make_checkpoint(tmp_path)
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    with raises(CheckpointError, path=folder / "config.json", name=None):
        open_checkpoint(folder)


def test_from_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_checkpoint(tmp_path / "original")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.models["someone/tiny"] = {path.name: path.read_bytes() for path in folder.iterdir()}
        checkpoint = open_checkpoint("someone/tiny", revision="v1.0")
        with pytest.raises(HubError, match="a folder is meant"):
            open_checkpoint("someone/else")
    assert (checkpoint.source, checkpoint.revision) == ("someone/tiny", COMMIT)
    checkpoint.check()
    expected = open_checkpoint(folder).tensor("wte.weight")
    np.testing.assert_array_equal(checkpoint.tensor("wte.weight"), expected)
