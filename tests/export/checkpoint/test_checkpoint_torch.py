"""Checkpoints as transformers and PyTorch write them, in every format and type."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from gpt2onnx.errors import (
    CheckpointError,
    TokenizerError,
    WeightsError,
)
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint, tensor_shapes
from tests.checkpoints import make_checkpoint
from tests.export.checkpoint.test_checkpoint import change_config
from tests.raising import raises
from tests.torch_checkpoints import Format, random_model, save_checkpoint

WTE = "transformer.wte.weight"


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = {
        name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()
    }
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


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
    folder = save_checkpoint(tmp_path, format=format, prefix=prefix)
    checkpoint = open_checkpoint(folder)
    checkpoint.check()
    body = GPT2LMHeadModel.from_pretrained(folder).transformer.state_dict()
    for name in tensor_shapes(checkpoint.config):
        np.testing.assert_array_equal(checkpoint.tensor(name), body[name].numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_stored_type_becomes_what_transformers_computes_with(
    tmp_path: Path, dtype: str
) -> None:
    folder = save_checkpoint(tmp_path, dtype=dtype)
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
    with raises(WeightsError, path=folder, name="lm_head.weight"):
        open_checkpoint(folder).check()


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


def test_a_missing_tensor(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    change_tensors(folder, lambda tensors: tensors.pop("transformer.h.1.mlp.c_fc.bias"))
    checkpoint = open_checkpoint(folder)
    with pytest.raises(
        WeightsError,
        match=r"expected transformer\.h\.1\.mlp\.c_fc\.bias of shape \[128\], found only",
    ):
        checkpoint.check()
    with raises(WeightsError, name="transformer.h.1.mlp.c_fc.bias"):
        checkpoint.tensor("h.1.mlp.c_fc.bias")


def put_before_names(folder: Path, prefix: str) -> Path:
    change_tensors(
        folder,
        lambda tensors: tensors.update(
            {prefix + name: tensors.pop(name) for name in list(tensors)}
        ),
    )
    return folder


@pytest.mark.parametrize("body", [True, False])
@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.",
        "module.",
        "_module.",
        "model.",
        "base_model.model.",
        "pretrained_model.",
        "_orig_mod.module.",
        "model._orig_mod.",
    ],
)
def test_what_wrappers_put_before_every_name_is_taken_off(
    tmp_path: Path, prefix: str, body: bool
) -> None:
    plain = open_checkpoint(save_checkpoint(tmp_path / "plain", prefix=body))
    wrapped = open_checkpoint(
        put_before_names(save_checkpoint(tmp_path / "wrapped", prefix=body), prefix)
    )
    wrapped.check()
    assert not wrapped.tensors.as_saved
    for name in tensor_shapes(plain.config):
        np.testing.assert_array_equal(wrapped.tensor(name), plain.tensor(name))


def test_a_wrapped_untied_head(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, tie_word_embeddings=False)
    expected = open_checkpoint(folder).tensor("lm_head.weight")
    wrapped = open_checkpoint(put_before_names(folder, "module."))
    wrapped.check()
    np.testing.assert_array_equal(wrapped.tensor("lm_head.weight"), expected)


@pytest.mark.parametrize(
    ("prefix", "more", "message"),
    [
        ("gpt.", {}, "found the prefix 'gpt.' before 28 of 28 names; take it off and save"),
        ("module.gpt.", {}, "found the prefix 'module.gpt.' before 28 of 28 names"),
        ("transformer.", {}, "found the prefix 'transformer.' before 28 of 28 names"),
        ("module.", {"v_head.weight": 1}, "before 28 of 29 names, and others, such as v_head.wei"),
        ("module.", {"module.score.weight": 1}, "others, such as module.score.weight; take it off"),
        (
            "base_model.model.",
            {"base_model.model.transformer.h.0.attn.c_attn.lora_A\n.weight": 1},
            "merge the adapter by PEFT's merge_and_unload()",
        ),
    ],
)
def test_a_prefix_of_uncertain_meaning_is_named(
    tmp_path: Path, prefix: str, more: dict[str, int], message: str
) -> None:
    folder = put_before_names(make_checkpoint(tmp_path), prefix)
    change_tensors(folder, lambda t: t.update({name: torch.ones(n) for name, n in more.items()}))
    with pytest.raises(WeightsError, match=re.escape(message)) as raised:
        open_checkpoint(folder)
    assert "expected GPT-2's names, such as transformer.wte.weight" in str(raised.value)


def test_other_names_beside_gpt2s_own_are_passed_over(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    change_tensors(folder, lambda tensors: tensors.update({"ema.wte.weight": torch.ones(3)}))
    checkpoint = open_checkpoint(folder)
    checkpoint.check()
    assert checkpoint.tensors.as_saved


def test_a_tied_head_that_an_index_lists_in_vain(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, format="sharded")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["lm_head.weight"] = content["weight_map"][WTE]
    index.write_text(json.dumps(content))
    open_checkpoint(folder).check()
    change_config(folder, tie_word_embeddings=False)
    with raises(WeightsError, path=index, name="lm_head.weight"):
        open_checkpoint(folder)


def test_a_tied_head_of_another_shape(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    change_tensors(folder, lambda t: t.update({"lm_head.weight": t[WTE].T.contiguous()}))
    with raises(WeightsError, path=folder / "model.safetensors", name="lm_head.weight"):
        open_checkpoint(folder).check()


@pytest.mark.parametrize("format", ["safetensors", "bin"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float8_e4m3fn])
def test_numbers_of_other_types(
    tmp_path: Path, format: Literal["safetensors", "bin"], dtype: torch.dtype
) -> None:
    folder = make_checkpoint(tmp_path)
    change_tensors(folder, lambda t: t.update({WTE: t[WTE].to(dtype)}))
    if format == "bin":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    checkpoint = open_checkpoint(folder)
    checkpoint.check()
    with raises(WeightsError, name=WTE):
        checkpoint.tensor("wte.weight")


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("safetensors", "config.json"),
        ("safetensors", "generation_config.json"),
        ("safetensors", "model.safetensors"),
        ("sharded", "model.safetensors.index.json"),
        ("sharded", "model-00001-of-00005.safetensors"),
        ("bin", "pytorch_model.bin"),
        ("sharded-bin", "pytorch_model.bin.index.json"),
        ("sharded-bin", "pytorch_model-00001-of-00005.bin"),
    ],
)
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, format: Format, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", format=format)
    (folder / name).unlink()
    with socket.socket(socket.AF_UNIX) as made:
        if kind == "pipe":
            os.mkfifo(folder / name)
        elif kind == "folder":
            (folder / name).mkdir()
        else:
            monkeypatch.chdir(folder)
            made.bind(name)
        with pytest.raises(CheckpointError) as raised:
            open_checkpoint(folder)
    assert raised.value.path == folder / name


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_tensor_that_is_not_finite(tmp_path: Path, value: float) -> None:
    folder = make_checkpoint(tmp_path, n_layer=1)
    change_tensors(folder, lambda tensors: tensors["transformer.ln_f.bias"].__setitem__(3, value))
    checkpoint = open_checkpoint(folder)
    checkpoint.check()
    checkpoint.tensor("ln_f.weight")
    with raises(WeightsError, path=folder / "model.safetensors", name="transformer.ln_f.bias"):
        checkpoint.tensor("ln_f.bias")


def test_no_tokenizer_or_one_that_is_too_large(tmp_path: Path) -> None:
    with raises(TokenizerError, path=tmp_path / "none"):
        open_checkpoint(save_checkpoint(tmp_path / "none", tokenizer=False))
    with raises(TokenizerError, name="<|endoftext|>"):
        open_checkpoint(make_checkpoint(tmp_path / "large", vocab_size=256))
