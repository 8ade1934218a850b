"""Smoothing changes no function, takes outliers away, and keeps each precision's bar with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.checkpoints import outliers as outlier_checkpoint
from gpt2onnx.export.calibration.forward_pass import watch
from gpt2onnx.export.checkpoint.checkpoint import Weights, open_checkpoint, tensor_shapes
from gpt2onnx.export.graph.kv_cache import largest_held
from gpt2onnx.export.quantization.smoothquant import smooth
from tests.checkpoints import make_checkpoint

CONFIGS: list[dict[str, Any]] = [
    {"activation_function": name} for name in ("gelu_new", "relu", "leaky_relu", "linear", "relu2")
] + [{"n_embd": 36, "n_head": 3, "n_inner": 50, "tie_word_embeddings": False}]


def last_hidden(weights: Weights, windows: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the head reads, [windows, tokens, n_embd]."""
    told = []
    watch(weights, windows, lambda name, x: told.append(x) if name == "lm_head" else None)
    return np.stack(told)


def windows(seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(257, size=(2, 30))


@pytest.mark.parametrize("config", CONFIGS)
def test_the_function_is_unchanged(tmp_path: Path, config: Mapping[str, Any]) -> None:
    plain = open_checkpoint(make_checkpoint(tmp_path / "plain", **config))
    outlier_checkpoint.write(plain, tmp_path / "outliers")
    outliers = open_checkpoint(tmp_path / "outliers")
    expected = last_hidden(plain, windows(0))
    for same in (outliers, smooth(plain, windows(1)), smooth(outliers, windows(1))):
        np.testing.assert_allclose(last_hidden(same, windows(0)), expected, rtol=1e-3, atol=1e-3)


def test_outliers_are_gone(tmp_path: Path) -> None:
    outlier_checkpoint.write(
        open_checkpoint(make_checkpoint(tmp_path / "plain", activation_function="relu")),
        tmp_path / "outliers",
    )
    weights = open_checkpoint(tmp_path / "outliers")

    def spread(weights: Weights) -> dict[str, float]:
        """For each matrix, its inputs' largest magnitude over the channels' median one."""
        found: dict[str, float] = {}

        def keep(name: str, x: NDArray[np.float32]) -> None:
            largest = np.abs(x).max(axis=0)
            found[name] = float(largest.max() / np.median(largest))

        watch(weights, windows(0)[:1], keep)
        return {name: ratio for name, ratio in found.items() if name.endswith(("fc", "proj"))}

    before, after = spread(weights), spread(smooth(weights, windows(0)))
    assert all(after[name] < before[name] / 2 for name in before)


@pytest.mark.parametrize("large", ["keys", "values"])
def test_the_largest_keys_and_values_are_those_of_a_pass(tmp_path: Path, large: str) -> None:
    from safetensors.numpy import load_file, save_file

    path = make_checkpoint(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    part = {"keys": slice(32, 64), "values": slice(64, 96)}[large]  # of queries, keys and values
    tensors["transformer.h.1.attn.c_attn.bias"][part] = np.linspace(-300, 200, 32)
    save_file(tensors, path, {"format": "pt"})
    smoothed = smooth(open_checkpoint(tmp_path), windows(0))
    found, passed = smoothed.largest_held(), largest_held(smoothed, windows(0))
    np.testing.assert_allclose(list(found), list(passed), rtol=1e-4)


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_hidden_units_are_sorted_by_size(tmp_path: Path, activation: str) -> None:
    weights = open_checkpoint(make_checkpoint(tmp_path, activation_function=activation))
    largest: dict[str, NDArray[np.float32]] = {}

    def keep(name: str, x: NDArray[np.float32]) -> None:
        if name.endswith("mlp.c_proj"):
            largest[name] = np.maximum(np.abs(x).max(axis=0), largest.get(name, 0))

    watch(smooth(weights, windows(0)), windows(0), keep)
    assert len(largest) == weights.config.n_layer
    for sizes in largest.values():
        assert (np.diff(sizes) <= 1e-5 * sizes[0]).all()
        assert sizes[0] > 1.5 * sizes[-1] or activation == "relu"


def test_zero_channels_are_left_alone(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = make_checkpoint(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    tensors["transformer.h.0.ln_1.weight"][3] = tensors["transformer.h.0.ln_1.bias"][3] = 0
    tensors["transformer.h.0.mlp.c_fc.weight"][5] = 0
    tensors["transformer.h.1.attn.c_proj.weight"][:] = 0
    save_file(tensors, path, {"format": "pt"})
    smoothed = smooth(open_checkpoint(tmp_path), windows(0))
    for name in tensor_shapes(smoothed.config):
        assert np.isfinite(smoothed.tensor(name)).all()
