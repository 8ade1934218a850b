"""The fused graph's logits beside transformers', with every option of GPT2Config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from transformers import GPT2LMHeadModel

from gpt2onnx.export.exporter import export
from gpt2onnx.export.graph.activations import ACTIVATIONS
from gpt2onnx.export.quantization.blocks import BLOCK_SIZE
from gpt2onnx.export.quantization.rounding import Blocks, quantize_blocks, quantize_columns
from gpt2onnx.export.quantization.table import PRECISIONS
from tests.checkpoints import DEFAULTS, make_checkpoint, write_tokenizer
from tests.export.graph.test_fused import parts_of
from tests.export.logits import (
    Ids,
    assert_close,
    batched_logits,
    exported_logits,
    load_reference,
    mean_kl,
    open_exported,
    reference_logits,
)
from tests.export.quantization.test_rounding import dequantize
from tests.torch_checkpoints import random_model, save_checkpoint

# Each option of GPT2Config off its default: every one that a config may have.
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"activation_function": name} for name in sorted(ACTIVATIONS)},
    "small n_inner": {"n_inner": 33},
    "large n_inner": {"n_inner": 401},
    "no scale": {"scale_attn_weights": False},
    "scale by layer": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3},
    "scale by layer alone": {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False},
    "upcast": {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
    "untied head": {"tie_word_embeddings": False},
    "large epsilon": {"layer_norm_epsilon": 0.5},
    "no epsilon": {"layer_norm_epsilon": 0},
    **{
        f"heads of {size}": {"n_embd": heads * size, "n_head": heads}
        for size, heads in ((1, 6), (4, 5), (5, 4), (7, 3), (8, 2), (12, 3), (20, 2), (64, 1))
    },
    "one layer": {"n_layer": 1},
    "odd vocabulary": {"vocab_size": 301},
    "eight positions": {"n_positions": 8},
    "long prompt": {"n_positions": 300, "n_layer": 1},
}
CUDA = ("fp32", "fp16", "int8", "int4")
FUSED = [*((name, "cpu") for name in PRECISIONS), *((name, "cuda") for name in CUDA)]


def some_ids(count: int, vocab_size: int = 257, seed: int = 0) -> Ids:
    return np.random.default_rng(seed).integers(0, vocab_size, count)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_logits_are_pytorchs(tmp_path: Path, options: dict[str, Any], device: str) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", **options)
    n_positions = (DEFAULTS | options)["n_positions"]
    assert_same_logits(checkpoint, tmp_path / "model", n_positions, device)


def test_logits_of_a_checkpoint_without_a_head(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    random_model().transformer.save_pretrained(folder)
    write_tokenizer(folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["GPT2Model"]
    assert_same_logits(folder, tmp_path / "model")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_of_a_checkpoint_stored_in_half_precision(tmp_path: Path, dtype: str) -> None:
    assert_same_logits(save_checkpoint(tmp_path / "checkpoint", dtype=dtype), tmp_path / "model")


def assert_same_logits(
    checkpoint: Path, out: Path, n_positions: int = 64, device: str = "cpu"
) -> None:
    """Of a prompt, of cached steps up to the last position, and of rows of unequal length."""
    export(checkpoint, out, precision="fp32", device=device, verify=False)
    reference, decoder = load_reference(checkpoint), open_exported(out)
    assert (decoder.n_positions, decoder.vocab_size) == (n_positions, reference.config.vocab_size)
    ids = some_ids(n_positions, decoder.vocab_size)
    expected = reference_logits(reference, ids)
    assert_close(exported_logits(decoder, ids, prompt=n_positions - 4), expected)
    texts = [some_ids(n, decoder.vocab_size, seed=n) for n in (8, 3, n_positions, 5)]
    for text, logits in zip(texts, batched_logits(decoder, texts, steps=2), strict=True):
        assert_close(logits, reference_logits(reference, text)[-3:])


@pytest.mark.parametrize(("n_embd", "n_head"), [(20, 4), (36, 1), (50, 1)])
@pytest.mark.parametrize(("precision", "device"), FUSED)
def test_widths_that_blocks_do_not_divide(
    tmp_path: Path, precision: str, device: str, n_embd: int, n_head: int
) -> None:
    """What is left beside the weights' rounding is that of activations, to 8 bits or to half.

    4 bits are rounded with more care than by round_weights, so that more is left of the function.
    """
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_embd=n_embd, n_head=n_head, n_inner=70)
    export(checkpoint, tmp_path / "model", precision=precision, device=device, verify=False)
    exact = reference_logits(load_reference(checkpoint), ids := some_ids(24))
    model = round_weights(load_reference(checkpoint), precision)
    if precision == "int4":
        keep_table_of(tmp_path / "model", model)
    rounded = reference_logits(model, ids)
    found = exported_logits(open_exported(tmp_path / "model"), ids, prompt=16)
    if precision == "int4":
        assert mean_kl(exact, found) < mean_kl(exact, rounded)
    else:
        bound = {"fp32": 1e-9, "fp16": 1e-4}.get(precision, 1e-2)
        assert mean_kl(rounded, found) < bound


def round_weights(model: GPT2LMHeadModel, precision: str) -> GPT2LMHeadModel:
    """The model with each matrix replaced by what is left of it after rounding."""
    if not precision.startswith("int"):
        return model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "transformer.wte.weight":
                parameter.copy_(torch.from_numpy(rounded_blocks(parameter.numpy(), 8)))
            elif "wpe" in name:
                parameter.copy_(parameter.half())
            elif parameter.ndim == 2:
                parameter.copy_(torch.from_numpy(rounded(name, parameter.numpy(), precision)))
    return model


def keep_table_of(folder: Path, model: GPT2LMHeadModel) -> None:
    """Give a model the embedding of a folder, whose rows GPTQ rounds for the head's inputs, too."""
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    stored = {
        each.name: numpy_helper.to_array(each, str(folder))
        for each in graph.initializer
        if each.name.startswith("wte.")
    }
    table = model.transformer.wte.weight
    parts = [
        dequantize(
            Blocks(stored[f"{name}_q{bits}"], stored[f"{name}_scales"]), bits, table.shape[1]
        )
        for name, bits in (("wte.weight", 8), ("wte.rest.weight", 4))
        if f"{name}_q{bits}" in stored
    ]
    with torch.no_grad():  # on CUDA rows of nothing follow
        table.copy_(torch.from_numpy(np.concatenate(parts)[: len(table)]))


def rounded(name: str, weight: NDArray[np.float32], precision: str) -> NDArray[np.float64]:
    """What an export keeps of weight [in, out]."""
    if precision == "int8-dynamic":
        parts = np.split(weight, parts_of(name, len(weight))[:-1])
        columns = [quantize_columns(part.T) for part in parts]
        return np.concatenate([values * scales.astype(np.float64) for values, scales in columns])
    return rounded_blocks(weight.T, 4 if precision == "int4" else 8).T


def rounded_blocks(weight: NDArray[np.float32], bits: int) -> NDArray[np.float64]:
    return dequantize(quantize_blocks(weight, bits, BLOCK_SIZE), bits, weight.shape[1])
