"""Adapters from a folder: what is in the file, and what is refused by name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import AdapterError, WeightsError
from gpt2onnx.export.checkpoint.adapter import open_adapter, open_adapters
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gpt2onnx.export.checkpoint.merging import with_adapters
from tests.adapters import PREFIX, factors, make_adapter
from tests.raising import raises

A = "h.0.attn.c_attn.lora_A.weight"
B = "h.0.attn.c_attn.lora_B.weight"
C_ATTN = "h.0.attn.c_attn.weight"


def merged(source: Path, *folders: Path) -> Checkpoint:
    return with_adapters(open_checkpoint(source), open_adapters(folders))


def test_two_factors_are_added_to_a_weight(checkpoint: Path, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path)
    before, after = open_checkpoint(checkpoint), merged(checkpoint, folder)
    a, b = factors()[PREFIX + A], factors()[PREFIX + B]
    expected = before.tensor(C_ATTN).astype("f8") + 2 * (b.astype("f8") @ a).T  # 8 / 4
    np.testing.assert_allclose(after.tensor(C_ATTN), expected, rtol=1e-5, atol=1e-6)
    untouched = "h.0.mlp.c_fc.weight"
    np.testing.assert_array_equal(after.tensor(untouched), before.tensor(untouched))
    assert after.config == before.config
    assert after.config_json == before.config_json


def test_a_bias_and_a_norm_that_were_saved_replace_the_checkpoint_s(
    checkpoint: Path, tmp_path: Path
) -> None:
    ones = np.ones(32, np.float32)
    saved = {
        f"{PREFIX}ln_f.bias": ones,
        f"{PREFIX}h.1.attn.c_attn.base_layer.bias": np.ones(96, "f4"),
    }
    after = merged(checkpoint, make_adapter(tmp_path, tensors=saved))
    np.testing.assert_array_equal(after.tensor("ln_f.bias"), ones)
    np.testing.assert_array_equal(after.tensor("h.1.attn.c_attn.bias"), np.ones(96))


def test_masks_and_copies_are_passed_over(checkpoint: Path, tmp_path: Path) -> None:
    more = {
        f"{PREFIX}h.0.attn.bias": np.ones((1, 1, 64, 64), np.float32),
        f"{PREFIX}h.0.attn.masked_bias": np.ones((), np.float32),
        f"{PREFIX}ln_f.bias": np.ones(32, np.float32),
        f"{PREFIX}ln_f.original_module.bias": np.zeros(32, np.float32),
        f"{PREFIX}ln_f.modules_to_save.default.bias": np.ones(32, np.float32),
    }
    after = merged(checkpoint, make_adapter(tmp_path, tensors=more))
    np.testing.assert_array_equal(after.tensor("ln_f.bias"), np.ones(32))


def test_the_digest_is_of_both_files(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path)
    files = ("adapter_config.json", "adapter_model.safetensors")
    both = b"".join((folder / name).read_bytes() for name in files)
    digest = open_adapter(folder).sha256
    assert digest == hashlib.sha256(both).hexdigest()
    assert open_adapter(make_adapter(tmp_path, lora_alpha=9)).sha256 != digest
    assert open_adapter(folder).name == str(folder)


def test_one_or_several(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path)
    assert open_adapters([]) == ()
    assert len(open_adapters(folder)) == len(open_adapters(str(folder))) == 1
    assert len(open_adapters([folder, str(folder)])) == 2


NAN = np.full((4, 32), np.nan, np.float32)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({A: None}, f"{B}: expected lora_A.weight and lora_B.weight, found one of them"),
        ({B: None}, f"{A}: expected lora_A.weight and lora_B.weight, found one of them"),
        ({A: NAN}, f"{A}: expected finite numbers, found NaN or infinity"),
        ({A: np.ones((5, 32), "f4")}, f"{A}: expected the shape [4, 32], as the checkpoint and ad"),
        ({B: np.ones((64, 4), "f4")}, "found [64, 4]; the adapter was made for 'some/base'"),
        ({A: np.ones(0, "f4")}, f"{A}: expected the shape [4, 32]"),
        ({"h.2.ln_1.bias": np.ones(32, "f4")}, "expected a tensor of the checkpoint's modules"),
        ({"ln_f.lora_A.weight": NAN}, "ln_f.lora_A.weight: expected a tensor of the checkpoint's"),
        ({"wte.lora_A.weight": NAN}, "wte.lora_A.weight: expected a tensor of the checkpoint's"),
        ({"wte.weight": np.ones((258, 32), "f4")}, "wte.weight: expected the shape [257, 32]"),
        ({"wte.lora_B.bias": np.ones(32, "f4")}, "wte.lora_B.bias: expected the shape []"),
        ({"ln_f.modules_to_save.x.bias": NAN}, "expected a tensor of the checkpoint's modules"),
        (
            {"h.0.attn.c_attn.lora_magnitude_vector": NAN},
            "expected LoRA's tensors of GPT-2, such as base_model.model.transformer.h.0",
        ),
    ],
)
def test_tensors_that_don_t_fit(
    checkpoint: Path, tmp_path: Path, tensors: dict[str, Any], message: str
) -> None:
    named = {PREFIX + name: tensor for name, tensor in tensors.items()}
    folder = make_adapter(tmp_path, tensors=named)
    with pytest.raises(AdapterError) as raised:
        merged(checkpoint, folder)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{folder}/adapter_model.safetensors: ")


@pytest.mark.filterwarnings("error")
def test_factors_whose_product_no_float32_holds(checkpoint: Path, tmp_path: Path) -> None:
    huge = {PREFIX + A: np.full((4, 32), 1e30, "f4"), PREFIX + B: np.full((96, 4), 1e30, "f4")}
    folder = make_adapter(tmp_path, tensors=huge)
    with raises(AdapterError, path=folder / "adapter_model.safetensors", name=PREFIX + A):
        merged(checkpoint, folder).tensor(C_ATTN)


def test_names_of_other_models(tmp_path: Path) -> None:
    for name in ("base_model.model.model.layers.0.q_proj.lora_A.weight!", "lm_head.weight", "x"):
        folder = make_adapter(tmp_path, tensors={name: NAN})
        with pytest.raises(AdapterError, match=f"found {name}"):
            open_adapter(folder)


def test_the_same_tensor_under_two_names(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path, tensors={f"base_model.model.{A}": NAN})
    with pytest.raises(AdapterError, match=r"comes twice, with and without transformer\."):
        open_adapter(folder)


def test_an_empty_file(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path, tensors=dict.fromkeys(factors()))
    with pytest.raises(AdapterError, match="expected LoRA's tensors, found none"):
        open_adapter(folder)


def test_folders_that_are_no_adapters(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="expected an adapter's folder, found none"):
        open_adapters([tmp_path / "lost"])
    with pytest.raises(AdapterError, match=r"found no adapter_config\.json"):
        open_adapters(tmp_path)
    for wrong in (3, None, "", "a\0b", [None]):
        with raises(AdapterError, name="adapter"):
            open_adapters(wrong)
    folder = make_adapter(tmp_path / "adapter")
    (folder / "adapter_model.safetensors").rename(folder / "else")
    with pytest.raises(AdapterError, match=r"or adapter_model\.bin, found neither"):
        open_adapters(folder)
    (folder / "adapter_model.bin").mkdir()
    with raises(WeightsError, path=folder / "adapter_model.bin"):
        open_adapters(folder)


def test_a_damaged_file(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path)
    file = folder / "adapter_model.safetensors"
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    for content in (file.read_bytes()[:-4], pointer, b""):
        file.write_bytes(content)
        with raises(WeightsError, path=file):
            open_adapter(folder)
