"""The watched forward pass against what transformers' modules are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gpt2onnx.export.calibration.activations import NUMPY_ACTIVATIONS
from gpt2onnx.export.calibration.forward_pass import cut, watch, watch_layers
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from gpt2onnx.export.graph.activations import ACTIVATIONS
from tests.checkpoints import make_checkpoint
from tests.export.logits import load_reference

CONFIGS: list[dict[str, Any]] = [
    {},
    {"n_embd": 36, "n_head": 3, "n_inner": 50, "tie_word_embeddings": False},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True, "layer_norm_epsilon": 1e-2},
]
MATRICES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


class Record:
    """A watcher that keeps everything."""

    def __init__(self) -> None:
        self.told: dict[str, list[NDArray[np.float32]]] = {}

    def __call__(self, name: str, x: NDArray[np.float32]) -> None:
        self.told.setdefault(name, []).append(x.copy())


def given_by_transformers(checkpoint: Path, windows: NDArray[np.int64]) -> dict[str, Any]:
    """The inputs of each matrix, and keys and values, [windows, …]."""
    model = load_reference(checkpoint)
    given: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs: given.__setitem__(name, inputs[0].numpy())

    for name, module in model.named_modules():
        name = name.removeprefix("transformer.")
        if name == "lm_head" or name.endswith(MATRICES):
            module.register_forward_pre_hook(keep(name))
    with torch.inference_mode():
        past = model(torch.from_numpy(windows), use_cache=True).past_key_values
    for layer in range(model.config.n_layer):
        given[f"h.{layer}.attn.key"] = past[layer][0].numpy().swapaxes(1, 2)
        given[f"h.{layer}.attn.value"] = past[layer][1].numpy().swapaxes(1, 2)
    return given


@pytest.mark.parametrize("config", CONFIGS)
def test_matrices_are_given_what_transformers_gives_them(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    folder = make_checkpoint(tmp_path, **config)
    windows = np.random.default_rng(0).integers(257, size=(3, 20))
    record = Record()
    watch(open_checkpoint(folder), windows, record)
    expected = given_by_transformers(folder, windows)
    assert record.told.keys() == expected.keys()
    for name, told in record.told.items():
        np.testing.assert_allclose(np.stack(told), expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_are_transformers(name: str) -> None:
    from transformers.activations import ACT2FN

    x = np.concatenate([np.linspace(-12, 12, 4001), [0.0, -90, 90]]).astype(np.float32)
    expected = ACT2FN[name](torch.from_numpy(x)).numpy()
    found = NUMPY_ACTIVATIONS[name](x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_layers_are_told_one_after_the_other(checkpoint: Path) -> None:
    record = Record()
    windows = np.zeros((1, 4), np.int64)
    for layer in watch_layers(open_checkpoint(checkpoint), windows, record):
        prefix = f"h.{layer}." if layer < 2 else "lm_head"
        assert record.told
        assert all(name.startswith(prefix) for name in record.told)
        record.told.clear()
    assert layer == 2


def test_windows_come_from_all_over_a_text() -> None:
    assert cut(np.arange(10), 3, 4).tolist() == [[0, 1, 2, 3], [6, 7, 8, 9]]
    assert cut(np.arange(12), 3, 4).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert cut(np.arange(100), 2, 4).tolist() == [[0, 1, 2, 3], [96, 97, 98, 99]]
    assert cut(np.arange(3), 2, 4).tolist() == [[0, 1, 2]]
