from __future__ import annotations

import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint, tensor_shapes
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.exporter import export
from gpt2onnx.export.graph.fused import build
from gpt2onnx.export.quantization.blocks import BLOCK_SIZE
from gpt2onnx.export.quantization.dynamic import LARGEST
from gpt2onnx.export.quantization.precision import first_rows
from gpt2onnx.export.quantization.table import PRECISIONS, choose
from gpt2onnx.export.writing.onnx_builder import PAGE, GraphBuilder
from tests.checkpoints import DEFAULTS, make_checkpoint


def parts_of(name: str, width: int) -> list[int]:
    """The rows of what int8-dynamic makes of a matrix."""
    largest = width // LARGEST if "mlp.c_proj" in name else 0
    return [rows for rows in (largest, width - largest) if rows]


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
CUDA_LAYER = {"MatMulNBits": 4, "Add": 4}
BLOCK_LAYER = {**CUDA_LAYER, "Cast": 4}
GATHERED = Counter({"Cast": 1, "Gather": 2, "Unsqueeze": 1, "Mul": 1, "Reshape": 1, "Sub": 1})
HEAD = Counter({"Cast": 1, "MatMulNBits": 1})
POSITIONS = Counter({"Cast": 1})
BLOCK_ENDS = GATHERED + HEAD + POSITIONS
TAKEN_APART = Counter({"Mul": 2, "Floor": 1, "Sub": 1, "Unsqueeze": 2, "Concat": 1, "Reshape": 1})
CHOSEN = Counter({"Min": 1, "Sub": 1, "Max": 1, "Less": 1, "Unsqueeze": 1, "Where": 1})
SPLIT_ENDS = BLOCK_ENDS + GATHERED + HEAD + TAKEN_APART + CHOSEN + Counter({"Concat": 1})
CUDA_ENDS = {"GatherBlockQuantized": 1, "MatMulNBits": 1, "Cast": 1}
BLOCKS = Counter({"MatMulNBits": 1, "Cast": 1, "Add": 1})
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
        ("int8", "cuda", CUDA_LAYER, CUDA_ENDS),
        ("int4", "cpu", BLOCK_LAYER, SPLIT_ENDS),
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
            sizes.append(out * width * (4 if precision == "fp32" else 2))
        elif precision == "int8-dynamic" and not table:
            sizes += [out * rows for rows in parts_of(name, width)]
        elif precision == "int4" and table:
            first = first_rows(out)
            for rows, bits in ((first, 8), (out - first, 4)):
                blocks = rows * -(-width // BLOCK_SIZE)
                sizes += [blocks * BLOCK_SIZE * bits // 8, blocks * 2]
        else:
            sizes += [blocks * BLOCK_SIZE * bits // 8, blocks * 2]
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
