"""The int8 cache's grids beside transformers' keys and values."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from gpt2onnx.errors import ParameterError, SettingsWarning, WeightsError
from gpt2onnx.export.exporter import export
from gpt2onnx.export.graph.fused import Extras
from gpt2onnx.export.graph.kinds import GRAPHS
from gpt2onnx.export.graph.kv_cache import ATTRIBUTES, MARGIN, CacheGrid
from gpt2onnx.export.plan import Plan
from gpt2onnx.export.quantization.table import DEVICES, PRECISIONS
from gpt2onnx.export.runtimes.targets import RUNTIMES
from gpt2onnx.export.writing.folder import MANIFEST
from gpt2onnx.export.writing.onnx_builder import GraphBuilder
from gpt2onnx.runtime.decoder import reads
from tests.checkpoints import make_checkpoint
from tests.export.logits import (
    exported_logits,
    load_reference,
    mean_kl,
    open_exported,
    reference_logits,
)
from tests.export.rounded_attention import (
    LOWEST,
    attention_over,
    calibrated,
    keys_and_values,
    rounding,
)
from tests.export.small_graph import run
from tests.raising import raises

Float = NDArray[np.float32]

random = np.random.default_rng(0)


def attention(qkv: Float, heads: int, grid: CacheGrid | None = None) -> NDArray[np.float64]:
    """Causal attention [tokens, width] over qkv [tokens, 3 * width], in double precision.

    With a grid, keys and values are whole numbers, and the output is multiplied by their steps.
    """
    parts = np.split(qkv.astype(np.float64), 3, axis=-1)
    if grid is not None:
        parts[1:] = [np.clip(np.rint(part), LOWEST, 127) for part in parts[1:]]
    q, k, v = (part.reshape(len(part), heads, -1).swapaxes(0, 1) for part in parts)
    scores = q @ k.swapaxes(1, 2) * q.shape[-1] ** -0.5
    scores[:, np.triu_indices(len(qkv), 1)[0], np.triu_indices(len(qkv), 1)[1]] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    means = weights / weights.sum(axis=-1, keepdims=True) @ v
    rows = means.swapaxes(0, 1).reshape(len(qkv), -1)
    return rows if grid is None else rows * grid.value_step


def test_a_grid_by_hand() -> None:
    keys = np.array([[2, -1, 5, 0], [6, -3, 5, 0], [4, -2, 5, 0]], np.float32)
    values = np.array([[2, -1, 0, 0.5], [6, -3, 0, -0.5], [4, -2, 0, 0]], np.float32)
    grid = CacheGrid.of(keys, values)
    np.testing.assert_array_equal(grid.key_middle, [4, -2, 5, 0])
    np.testing.assert_allclose(grid.key_step, [2 * MARGIN / 127, MARGIN / 127, 1, 1])
    np.testing.assert_allclose(
        grid.value_step, [6 * MARGIN / 127, 3 * MARGIN / 127, 1, 0.5 * MARGIN / 127]
    )
    assert all(part.dtype == np.float32 for part in vars(grid).values())


def test_attention_is_the_same_before_it_is_rounded() -> None:
    """But for rounding, keys and values on a grid change nothing: up to fp32's own precision."""
    x = random.normal(size=(20, 12)).astype(np.float32)
    weight = random.normal(size=(12, 36)).astype(np.float32)
    bias = random.normal(0, 30, size=36).astype(np.float32)
    _, keys, values = np.split(x @ weight + bias, 3, axis=-1)
    grid = CacheGrid.of(keys, values)
    placed_weight, placed_bias = grid.place(weight, bias)
    placed = x @ placed_weight + placed_bias
    levels = placed[:, 12:]
    assert np.abs(levels).max() == pytest.approx(127 / MARGIN, rel=1e-3)
    expected = attention(x @ weight + bias, 3)
    np.testing.assert_allclose(attention(placed, 3) * grid.value_step, expected, rtol=1e-3)
    error = np.abs(attention(placed, 3, grid) - expected).max()
    assert 1e-4 < error < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("size", [1, 7, 8, 12, 24, 64])
def test_logits_are_pytorchs_with_keys_and_values_rounded(tmp_path: Path, size: int) -> None:
    """transformers' own attention over keys and values rounded as the definition has it.

    The grids come from transformers' keys and values, too. Steps and prompts, up to the end.
    """
    checkpoint = make_checkpoint(tmp_path / "checkpoint", seed=4, n_embd=2 * size, n_head=2)
    export(checkpoint, tmp_path / "model", precision="fp32", kv_cache="int8", verify=False)
    model = load_reference(checkpoint)
    grids = calibrated(model, (16, 64))
    ids = np.random.default_rng(1).integers(0, 257, 64)
    exact = reference_logits(model, ids)
    found = exported_logits(open_exported(tmp_path / "model"), ids, prompt=40)
    with attention_over(rounding(grids)):
        expected = reference_logits(model, ids)
    # Where fp32's own error moves a number across the middle of a step, the levels differ by one.
    assert mean_kl(expected, found) < 0.05 * mean_kl(exact, expected)


def test_the_cache_holds_the_rounded_keys_and_values(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_layer=1)
    export(checkpoint, tmp_path / "model", precision="fp32", kv_cache="int8", verify=False)
    model = load_reference(checkpoint)
    [grid] = calibrated(model, (16, 64))
    ids = np.random.default_rng(1).integers(0, 257, 64)
    [(keys, values)] = keys_and_values(model, ids)
    decoder: Any = open_exported(tmp_path / "model")
    row = decoder.new_row()
    reads.prefill(decoder, row, ids[:50])
    for token in ids[50:]:
        reads.step(decoder, [row], token[None])
    wanted = (keys - grid.key_middle) / grid.key_step, values / grid.value_step
    for held, levels in zip(decoder.cache.arena.tensors, wanted, strict=True):
        assert held.dtype == np.int8
        found = held[row.index, :, :64].swapaxes(0, 1).reshape(64, -1)
        np.testing.assert_allclose(found, levels, atol=0.501)
        assert np.abs(found).max() > 60


@pytest.mark.parametrize("head_dim", [8, 16, 24, 64, 72])
def test_the_operator_rounds_to_the_nearest_level_and_clips(tmp_path: Path, head_dim: int) -> None:
    """Halves go to the even level, what is beyond the range to its end, for any head size."""
    tokens, heads = 20, 2
    qkv = random.normal(0, 60, size=(tokens, 3 * heads * head_dim)).astype(np.float32)
    qkv[:, 0], qkv[:, 2 * heads * head_dim] = 0.001, -0.001
    qkv[3, heads * head_dim :] = np.rint(qkv[3, heads * head_dim :]) + 0.5
    qkv[5], qkv[7] = 1000, -1000
    shape = (1, heads, tokens, head_dim)
    feeds: dict[str, Any] = {
        "qkv": qkv[None],
        "past_key": np.zeros(shape, np.int8),
        "past_value": np.zeros(shape, np.int8),
        "seqlens_k": np.array([tokens - 1], np.int32),
        "total": np.array(tokens, np.int32),
    }

    def build(op: GraphBuilder) -> tuple[str, ...]:
        one = op.constant([1], np.float32)
        names = ["qkv", "", "", *list(feeds)[1:], *("", "", "", "", ""), one, one]
        outputs = ("out", "key", "value")
        sizes: dict[str, Any] = {"num_heads": heads, "kv_num_heads": heads}
        op.node("GroupQueryAttention", names, outputs, **sizes, **ATTRIBUTES["int8"])
        return outputs

    out, *caches = run(tmp_path, build, **feeds)
    one = np.ones(heads * head_dim, np.float32)
    grid = CacheGrid(key_middle=0 * one, key_step=one, value_step=one)
    np.testing.assert_allclose(out[0], attention(qkv, heads, grid), rtol=1e-4, atol=1e-3)
    for held, numbers in zip(caches, np.split(qkv, 3, axis=1)[1:], strict=True):
        levels = np.clip(np.rint(numbers), LOWEST, 127)
        np.testing.assert_array_equal(held[0].swapaxes(0, 1).reshape(tokens, -1), levels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_cache": "int4"}, "kv_cache='int4': expected one of auto, float, float16, int8"),
        ({"graph": "portable"}, "kv_cache='int8' needs graph='fused', got 'portable'; use "),
        ({"device": "cuda"}, "kv_cache='int8' needs device='cpu', got 'cuda'; use kv_cache="),
        (
            {"precision": "fp16"},
            "kv_cache='int8' needs precision='fp32' or 'int8' or 'int8-dynamic' or 'int4', "
            "got 'fp16'; use kv_cache='float'",
        ),
        (
            {"kv_cache": "float16", "precision": "int8-dynamic"},
            "kv_cache='float16' needs precision='fp32' or 'int8' or 'int4', got 'int8-dynamic'",
        ),
    ],
)
def test_what_there_are_no_kernels_for(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParameterError, match=re.escape(message)) as raised:
        export("nowhere", tmp_path / "model", **{"kv_cache": "int8", **options})
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_cache_that_nobody_asked_for(
    precision: str, device: str, graph: str, runtime: str
) -> None:
    asked: dict[str, Any] = {"runtime": runtime, "calibration": None}
    kernels = runtime == "onnxruntime" and (device, graph) == ("cpu", "fused")
    expected = "float16" if kernels and precision in ("int8", "int4") else "float"
    try:
        extras = Extras(kv_cache="auto")
        plan = Plan.of(precision=precision, graph=graph, device=device, extras=extras, **asked)
    except ParameterError:  # what doesn't go together, whatever the cache
        with pytest.raises(ParameterError):
            Plan.of(precision=precision, graph=graph, device=device, extras=Extras(), **asked)
        assert expected == "float"
    else:
        assert plan.described().get("kv_cache", "float") == plan.extras.kv_cache == expected


@pytest.mark.parametrize(
    ("precision", "kv_cache"),
    [
        *((precision, cache) for precision in ("fp32", "int8", "int4") for cache in ATTRIBUTES),
        *(("int8-dynamic", cache) for cache in ("float", "int8")),
        ("fp16", "float"),
    ],
)
def test_a_cache_that_was_asked_for_is_taken(precision: str, kv_cache: str) -> None:
    asked: dict[str, Any] = {"graph": None, "runtime": "onnxruntime", "calibration": None}
    extras = Extras(kv_cache=kv_cache)
    plan = Plan.of(precision=precision, device="cpu", extras=extras, **asked)
    assert plan.described()["kv_cache"] == plan.extras.kv_cache == kv_cache


@pytest.mark.parametrize(
    ("precision", "kv_cache"), [("int8", "float16"), ("int4", "float16"), ("fp32", "float")]
)
def test_the_default_is_the_explicit_cache_of_its_name(
    checkpoint: Path, tmp_path: Path, precision: str, kv_cache: str
) -> None:
    how: dict[str, Any] = {"precision": precision, "verify": False}
    default = export(checkpoint, tmp_path / "default", **how).folder
    explicit = export(checkpoint, tmp_path / "named", kv_cache=kv_cache, **how).folder
    assert contents(default) == contents(explicit)


@pytest.fixture
def large(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint whose keys come near half precision's end."""
    folder = copytree(checkpoint, tmp_path / "large")
    tensors = load_file(folder / "model.safetensors")
    (name,) = (name for name in tensors if name.endswith("h.1.attn.c_attn.bias"))
    tensors[name][32:64] = 6e4  # the keys' part of 32, 32, 32
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_keys_beyond_half_precision_are_refused(large: Path, tmp_path: Path) -> None:
    with raises(WeightsError, named=("kv_cache",)):
        export(large, tmp_path / "model", kv_cache="float16", verify=False)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_default_says_so_and_is_float_where_half_precision_ends(
    large: Path, tmp_path: Path, precision: str
) -> None:
    how: dict[str, Any] = {"precision": precision, "verify": False}
    with pytest.warns(
        SettingsWarning, match="layer 1 reach 1[5-7][0-9],.*; the KV cache is 'float'"
    ) as told:
        default = export(large, tmp_path / "default", **how).folder
    assert len(told) == 1
    explicit = export(large, tmp_path / "float", kv_cache="float", **how).folder  # without a word
    assert contents(default) == contents(explicit)
    assert json.loads((default / MANIFEST).read_text())["kv_cache"] == "float"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
