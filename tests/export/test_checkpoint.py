from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from gpt2onnx.errors import (
    CheckpointError,
    HubError,
    TokenizerError,
    UnsupportedConfigError,
    WeightsError,
)
from gpt2onnx.export.checkpoint import open_checkpoint, tensor_shapes
from tests.checkpoints import Format, make_checkpoint, random_model
from tests.export.fake_hub import COMMIT, serve

WTE = "transformer.wte.weight"


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = {
        name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()
    }
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    "overrides", [{}, {"tie_word_embeddings": False, "n_inner": 50, "n_layer": 1}]
)
def test_shapes_are_those_of_transformers(overrides: dict[str, Any], tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, **overrides)
    model = GPT2LMHeadModel.from_pretrained(folder)
    expected = {
        name.removeprefix("transformer."): tuple(parameter.shape)
        for name, parameter in model.named_parameters()
    }
    assert tensor_shapes(open_checkpoint(folder).config) == expected


@pytest.mark.parametrize("format", ["safetensors", "sharded", "bin", "sharded-bin"])
@pytest.mark.parametrize("prefix", [True, False])
def test_tensors_are_those_that_transformers_loads(
    tmp_path: Path, format: Format, prefix: bool
) -> None:
    folder = make_checkpoint(tmp_path, format=format, prefix=prefix)
    checkpoint = open_checkpoint(folder)
    checkpoint.check()
    body = GPT2LMHeadModel.from_pretrained(folder).transformer.state_dict()
    for name in tensor_shapes(checkpoint.config):
        np.testing.assert_array_equal(checkpoint.tensor(name), body[name].numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_stored_type_becomes_what_transformers_computes_with(
    tmp_path: Path, dtype: str
) -> None:
    folder = make_checkpoint(tmp_path, dtype=dtype)
    model = GPT2LMHeadModel.from_pretrained(folder, torch_dtype=torch.float32)
    values = open_checkpoint(folder).tensor("wte.weight")
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, model.lm_head.weight.detach().numpy())


def test_untied_head(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, tie_word_embeddings=False)
    checkpoint = open_checkpoint(folder)
    checkpoint.check()
    head = random_model(tie_word_embeddings=False).lm_head.weight.detach().numpy()
    np.testing.assert_array_equal(checkpoint.tensor("lm_head.weight"), head)
    assert not np.array_equal(head, checkpoint.tensor("wte.weight"))
    change_tensors(folder, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(WeightsError, match=r"expected lm_head\.weight of shape \[257, 32\]"):
        open_checkpoint(folder).check()


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


def test_stored_masks_and_other_heads_are_passed_over(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)

    def add(tensors: dict[str, torch.Tensor]) -> None:
        tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.uint8)
        tensors["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
        tensors["multiple_choice_head.summary.weight"] = torch.ones(1, 32)
        tensors["lm_head.weight"] = tensors[WTE].clone()

    change_tensors(folder, add)
    checkpoint = open_checkpoint(folder)
    checkpoint.check()
    for name in tensor_shapes(checkpoint.config):
        checkpoint.tensor(name)


def test_a_tied_head_with_values_of_its_own_is_a_contradiction(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    change_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": tensors[WTE] + 1}))
    with pytest.raises(WeightsError, match="set that to false if"):
        open_checkpoint(folder).check()
    change_config(folder, tie_word_embeddings=False)
    open_checkpoint(folder).check()


def test_layers_beyond_the_configs(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    change_config(folder, n_layer=1)
    with pytest.raises(WeightsError, match=r"expected 1 layers, .* found transformer\.h\.1\."):
        open_checkpoint(folder).check()


def test_a_missing_tensor(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    change_tensors(folder, lambda tensors: tensors.pop("transformer.h.1.mlp.c_fc.bias"))
    checkpoint = open_checkpoint(folder)
    with pytest.raises(
        WeightsError,
        match=r"expected transformer\.h\.1\.mlp\.c_fc\.bias of shape \[128\], found only",
    ):
        checkpoint.check()
    with pytest.raises(WeightsError, match=r"h\.1\.mlp\.c_fc\.bias"):
        checkpoint.tensor("h.1.mlp.c_fc.bias")


def test_names_with_another_prefix(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    change_tensors(
        folder,
        lambda tensors: tensors.update(
            {f"module.{name}": tensors.pop(name) for name in list(tensors)}
        ),
    )
    with pytest.raises(WeightsError, match=r"found only module\.transformer\.h\.0.* and 25 others"):
        open_checkpoint(folder).check()


def test_a_tensor_of_another_shape(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    change_config(folder, n_positions=32)
    checkpoint = open_checkpoint(folder)
    message = r"model\.safetensors: expected transformer\.wpe.* \[32, 32\], .* found \[64, 32\]"
    with pytest.raises(WeightsError, match=message):
        checkpoint.check()
    with pytest.raises(WeightsError, match=message):
        checkpoint.tensor("wpe.weight")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_tensor_that_is_not_finite(tmp_path: Path, value: float) -> None:
    folder = make_checkpoint(tmp_path, n_layer=1)
    change_tensors(folder, lambda tensors: tensors["transformer.ln_f.bias"].__setitem__(3, value))
    checkpoint = open_checkpoint(folder)
    checkpoint.check()
    checkpoint.tensor("ln_f.weight")
    with pytest.raises(WeightsError, match=r"finite numbers in transformer\.ln_f\.bias"):
        checkpoint.tensor("ln_f.bias")


def test_truncated_weights(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="truncated"):
        open_checkpoint(folder)


def test_an_adapter(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedConfigError, match="merge_and_unload"):
        open_checkpoint(folder)


def test_no_tokenizer_or_one_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"expected tokenizer\.json"):
        open_checkpoint(make_checkpoint(tmp_path / "none", tokenizer=False))
    with pytest.raises(TokenizerError, match="vocab_size 256"):
        open_checkpoint(make_checkpoint(tmp_path / "large", vocab_size=256))


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
    with pytest.raises(CheckpointError, match=r"config\.json: expected .*, found") as raised:
        open_checkpoint(folder)
    if "n_embd" in content:
        assert "line 3, column 1" in str(raised.value)


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
