from __future__ import annotations

import json
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from transformers import GPT2LMHeadModel

from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint, tensor_shapes
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.exporter import export
from gpt2onnx.export.graph.activations import ACTIVATIONS
from gpt2onnx.export.graph.fused import build
from gpt2onnx.export.quantization.blocks import BLOCK_SIZE
from gpt2onnx.export.quantization.dynamic import LARGEST
from gpt2onnx.export.quantization.rounding import quantize_blocks, quantize_columns
from gpt2onnx.export.quantization.table import PRECISIONS, choose
from gpt2onnx.export.writing.onnx_builder import PAGE, GraphBuilder
from tests.checkpoints import DEFAULTS, make_checkpoint, random_model, write_tokenizer
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
"""Each option of GPT2Config off its default: every one that a config may have."""

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
    assert_same_logits(make_checkpoint(tmp_path / "checkpoint", dtype=dtype), tmp_path / "model")


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
    rounded = reference_logits(round_weights(load_reference(checkpoint), precision), ids)
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
            elif parameter.ndim == 2 and "wpe" not in name:
                parameter.copy_(torch.from_numpy(rounded(name, parameter.numpy(), precision)))
    return model


def rounded(name: str, weight: NDArray[np.float32], precision: str) -> NDArray[np.float64]:
    """What an export keeps of weight [in, out]."""
    if precision == "int8-dynamic":
        parts = np.split(weight, parts_of(name, len(weight))[:-1])
        columns = [quantize_columns(part.T) for part in parts]
        return np.concatenate([values * scales.astype(np.float64) for values, scales in columns])
    return rounded_blocks(weight.T, 4 if precision == "int4" else 8).T


def parts_of(name: str, width: int) -> list[int]:
    """The rows of what int8-dynamic makes of a matrix."""
    largest = width // LARGEST if "mlp.c_proj" in name else 0
    return [rows for rows in (largest, width - largest) if rows]


def rounded_blocks(weight: NDArray[np.float32], bits: int) -> NDArray[np.float64]:
    return dequantize(quantize_blocks(weight, bits, BLOCK_SIZE), bits, weight.shape[1])


def built(checkpoint: Path, out: Path, precision: str, device: str = "cpu") -> onnx.ModelProto:
    """The graph of a checkpoint, with its data file beside it in `out`."""
    out.mkdir()
    with (out / "model.onnx.data").open("wb") as data:
        model = build(
            open_checkpoint(checkpoint),
            choose(precision, device),
            GraphBuilder(data, "model.onnx.data"),
        )
    onnx.save(model, out / "model.onnx")
    return model


LAYER = {"Add": 2, "LayerNormalization": 2, "FastGelu": 1, "GroupQueryAttention": 1, "Reshape": 2}
ENDS = {"Add": 1, "Concat": 1, "LayerNormalization": 1, "Gather": 2, "Reshape": 2, "Shape": 1}
FLOAT_LAYER, FLOAT_ENDS = {"Gemm": 4}, {"Gather": 1, "Gemm": 1}
BLOCK_LAYER = {"MatMulNBits": 4, "Add": 4}
GATHERED = {"Cast": 1, "Gather": 2, "Mul": 1, "Reshape": 1, "Sub": 1}
BLOCK_ENDS = {**GATHERED, "MatMulNBits": 1}
CUDA_ENDS = {"GatherBlockQuantized": 1, "MatMulNBits": 1, "Cast": 1}
BLOCKS = Counter({"MatMulNBits": 1, "Add": 1})
TOKENS = ("ReduceMax", "Mul", "Shape", "Expand", "QuantizeLinear")
PRODUCT = ("MatMulIntegerToFloat", "Mul")
DYNAMIC = Counter([*TOKENS, *PRODUCT, "Abs", "Unsqueeze", "Add"])
HALVES = ("Reshape", "MatMul", "Reshape")
REST = ("DequantizeLinear", "Sub", "Mul", "QuantizeLinear", "Concat", "Concat")
FINE = DYNAMIC + Counter([*REST, *HALVES])
HIDDEN = Counter([*(2 * (*TOKENS, *PRODUCT, "LeakyRelu", "Unsqueeze")), "Split", "Sum", "Add"])
GRID = ("Reshape", "Abs", "ReduceMax", "Mul", "Max", "Div", "Round", "Mul", "Sub", "Concat")
FINE_BLOCKS = BLOCKS + Counter([*GRID, "Reshape", *HALVES])


@pytest.mark.parametrize(
    ("precision", "device", "layer", "ends"),
    [
        ("fp32", "cpu", FLOAT_LAYER, FLOAT_ENDS),
        ("fp16", "cpu", FLOAT_LAYER, {**FLOAT_ENDS, "Cast": 1}),
        ("int8", "cpu", FINE_BLOCKS + FINE_BLOCKS + BLOCKS + BLOCKS, BLOCK_ENDS),
        ("int8", "cuda", BLOCK_LAYER, CUDA_ENDS),
        ("int4", "cpu", BLOCK_LAYER, BLOCK_ENDS),
        ("int8-dynamic", "cpu", FINE + FINE + DYNAMIC + HIDDEN, BLOCK_ENDS),
    ],
)
def test_there_is_no_node_too_many(
    tmp_path: Path, precision: str, device: str, layer: dict[str, int], ends: dict[str, int]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_layer=3)
    model = built(checkpoint, tmp_path / "model", precision, device)
    expected = Counter(ENDS) + Counter(ends)
    for _ in range(3):
        expected += Counter(LAYER) + Counter(layer)
    assert Counter(node.op_type for node in model.graph.node) == expected
    onnx.checker.check_model(tmp_path / "model" / "model.onnx", full_check=True)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_an_older_onnx_runtime_takes_every_attention(
    tmp_path: Path, precision: str, bias: bool
) -> None:
    """1.21's GroupQueryAttention has 12 inputs, and refuses more even where they are empty."""
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    out, extras = tmp_path / "out", {"with_attention_bias": bias}
    export(checkpoint, out, precision=precision, verify=False, **extras)
    for node in onnx.load(out / "model.onnx", load_external_data=False).graph.node:
        assert not node.input or node.input[-1], node.name
        if node.op_type == "GroupQueryAttention":
            assert len(node.input) == (11 if bias else 7)


def test_nodes_are_named_after_the_checkpoints_modules(tmp_path: Path) -> None:
    model = built(make_checkpoint(tmp_path / "checkpoint"), tmp_path / "model", "fp32")
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {name.split("/")[1] for name in names} == {
        "embedding",
        *(
            f"h.{layer}{module}"
            for layer in range(2)
            for module in ("", ".ln_1", ".attn", ".attn.c_attn", ".attn.c_proj")
        ),
        *(f"h.{layer}.{module}" for layer in range(2) for module in ("ln_2", "mlp")),
        *(f"h.{layer}.mlp.{module}" for layer in range(2) for module in ("c_fc", "c_proj")),
        "ln_f",
        "lm_head",
    }
    assert {"/lm_head/Gemm", "/h.1.attn/GroupQueryAttention", "/h.0.mlp/FastGelu"} <= {*names}


@pytest.mark.parametrize(("size", "padded"), [(8, 8), (12, 16)])
def test_inputs_and_outputs_are_those_that_the_runtime_binds(
    tmp_path: Path, size: int, padded: int
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_embd=2 * size, n_head=2, n_layer=1)
    graph = built(checkpoint, tmp_path / "model", "int8", "cuda").graph
    cache = ("batch", 2, "capacity", padded)
    assert {value.name: described(value) for value in graph.input} == {
        "input_ids": (TensorProto.INT64, ("batch", "sequence")),
        "position_ids": (TensorProto.INT64, ("batch", "sequence")),
        "seqlens_k": (TensorProto.INT32, ("batch",)),
        "total_sequence_length": (TensorProto.INT32, ()),
        "logits_index": (TensorProto.INT64, ("count",)),
        "past_key_values.0.key": (TensorProto.FLOAT16, cache),
        "past_key_values.0.value": (TensorProto.FLOAT16, cache),
    }
    assert {value.name: described(value) for value in graph.output} == {
        "logits": (TensorProto.FLOAT, ("count", 257)),
        "present.0.key": (TensorProto.FLOAT16, cache),
        "present.0.value": (TensorProto.FLOAT16, cache),
    }


def described(value: onnx.ValueInfoProto) -> tuple[int, tuple[str | int, ...]]:
    tensor = value.type.tensor_type
    shape = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
    return tensor.elem_type, shape


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_matrix_is_stored_once_and_on_a_page(
    tmp_path: Path, precision: str, tied: bool
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", tie_word_embeddings=tied)
    model = built(checkpoint, tmp_path / "model", precision)
    places: dict[int, int] = {}
    for tensor in model.graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if not place:
            assert len(tensor.dims) <= 1, tensor.name
            continue
        assert int(place["offset"]) % PAGE == 0
        places[int(place["offset"])] = int(place["length"])
    config = open_checkpoint(checkpoint).config
    in_file = [size for _, size in sorted(places.items())]
    assert in_file == [*stored_sizes(config, precision)]
    *others, (offset, length) = sorted(places.items())
    assert offset + length == (tmp_path / "model" / "model.onnx.data").stat().st_size
    assert offset == sum(-(-size // PAGE) * PAGE for _, size in others)


def stored_sizes(config: Gpt2Config, precision: str) -> list[int]:
    """The bytes of each matrix in the data file, in the checkpoint's order."""
    sizes = []
    for name, shape in tensor_shapes(config).items():
        if len(shape) != 2:
            continue
        table = name in ("wte.weight", "lm_head.weight")
        out, width = shape if table else shape[::-1]
        blocks = out * -(-width // BLOCK_SIZE)
        bits = 4 if precision == "int4" and ".mlp." in name else 8
        if precision in ("fp32", "fp16") or name == "wpe.weight":
            sizes.append(out * width * (2 if precision == "fp16" else 4))
        elif precision == "int8-dynamic" and not table:
            sizes += [out * rows for rows in parts_of(name, width)]
        else:
            sizes += [blocks * BLOCK_SIZE * bits // 8, blocks * 4]
    return sizes


class CountingCheckpoint:
    """Random weights that tell how many of them are held at once."""

    def __init__(self, config: Gpt2Config) -> None:
        self.config = config
        self.alive = self.most = 0

    def tensor(self, name: str) -> NDArray[np.float32]:
        value = np.random.default_rng(0).random(tensor_shapes(self.config)[name], np.float32)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(value, self.forget)
        return value

    def forget(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_stream_through(tmp_path: Path, precision: str) -> None:
    config = Gpt2Config.from_json({**DEFAULTS, "n_layer": 5, "n_embd": 20})
    checkpoint = CountingCheckpoint(config)
    with (tmp_path / "data").open("wb") as data:
        build(checkpoint, choose(precision, "cpu"), GraphBuilder(data, "data"))
    assert checkpoint.most == 2  # a matrix and its bias
    assert checkpoint.alive == 0


def test_progress_counts_layers(tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []

    def track(items: Any, label: str) -> Any:
        for item in items:
            seen.append((item, label))
            yield item

    checkpoint = open_checkpoint(make_checkpoint(tmp_path / "checkpoint"))
    with (tmp_path / "data").open("wb") as data:
        build(checkpoint, choose("int8", "cpu"), GraphBuilder(data, "data"), track)
    assert seen == [(0, "exporting"), (1, "exporting")]
