"""The least squares of a prune, beside numpy's own, and where nothing has to be made up for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpt2onnx.export.calibration.forward_pass import Forward, watch
from gpt2onnx.export.checkpoint.checkpoint import tensor_shapes
from gpt2onnx.smaller.checkpoint import open_source
from gpt2onnx.smaller.prune.refit import (
    LAYERS_RIDGE,
    UNITS_RIDGE,
    refitted,
    useful_units,
)
from gpt2onnx.smaller.prune.stream import perplexity
from tests.checkpoints import make_checkpoint
from tests.smaller.idle_parts import make_idle_units

IDS = np.random.default_rng(0).integers(257, size=(16, 64))


def test_all_layers_and_units_are_the_original(tmp_path: Path) -> None:
    source = open_source(make_checkpoint(tmp_path, tie_word_embeddings=False))
    (made,) = refitted(source, [0, 1], [128], IDS)
    assert made.config == source.config
    for name, shape in tensor_shapes(made.config).items():
        assert made.tensor(name).shape == shape
        assert np.array_equal(made.tensor(name), source.tensor(name))


def test_idle_units_go_and_nothing_else_changes(tmp_path: Path) -> None:
    source = open_source(make_idle_units(tmp_path))
    made = dict(zip((64, 32), refitted(source, [0, 1], [64, 32], IDS), strict=True))
    for name, shape in tensor_shapes(made[64].config).items():
        assert made[64].tensor(name).shape == shape
    weight = source.tensor("h.1.mlp.c_fc.weight")
    assert np.array_equal(made[64].tensor("h.1.mlp.c_fc.weight"), weight[:, ::2])
    rows = source.tensor("h.1.mlp.c_proj.weight")
    assert np.array_equal(made[64].tensor("h.1.mlp.c_proj.weight"), rows[::2])
    whole, half, quarter = (perplexity(each, IDS) for each in (source, made[64], made[32]))
    assert np.isclose(half, whole, rtol=1e-5)
    assert not np.isclose(quarter, whole, rtol=1e-3)


def activations(source: object, layer: int) -> np.ndarray:
    """A layer's hidden units on IDS, and a last one that is 1: [tokens, inner + 1]."""
    found: list[np.ndarray] = []
    name = f"h.{layer}.mlp.c_proj"
    watch(source, IDS, lambda each, values: found.append(values) if each == name else None)
    units = np.concatenate(found).astype(np.float64)
    return np.append(units, np.ones((len(units), 1)), axis=1)


def ridge(units: np.ndarray, wanted: np.ndarray, share: float) -> np.ndarray:
    """numpy's least squares with a row for each unit's penalty, but for the bias's."""
    penalty = np.sqrt(share * np.square(units[:, :-1]).sum(axis=0).mean())
    rows = np.eye(units.shape[1])[:-1] * penalty
    stacked = np.vstack([units, rows]), np.vstack([wanted, np.zeros((len(rows), wanted.shape[1]))])
    return np.linalg.lstsq(*stacked, rcond=None)[0]


def test_units_that_are_left_are_fitted_to_the_blocks_output(tmp_path: Path) -> None:
    source = open_source(make_checkpoint(tmp_path))
    (made,) = refitted(source, [0, 1], [100], IDS)
    units = activations(source, 1)
    rows = np.vstack([source.tensor(f"h.1.mlp.c_proj.{kind}") for kind in ("weight", "bias")])
    kept = np.append(made.layers[1].units, 128)
    wanted = units @ rows - units[:, kept] @ rows[kept]
    expected = rows[kept] + ridge(units[:, kept], wanted, UNITS_RIDGE)
    found = np.vstack([made.layers[1].weight, made.layers[1].bias])
    assert np.allclose(found, expected, atol=1e-4)
    before, after = (
        np.square(wanted).sum(),
        np.square(wanted - units[:, kept] @ (found - rows[kept])).sum(),
    )
    assert after < before / 2


def test_a_layer_makes_up_for_those_behind_that_are_gone(tmp_path: Path) -> None:
    source = open_source(make_checkpoint(tmp_path, n_layer=4))
    (made,) = refitted(source, [0, 3], [128], IDS)
    (first, last) = (_stream(source, layer) for layer in (0, 2))
    units = activations(source, 0)
    rows = np.vstack([source.tensor(f"h.0.mlp.c_proj.{kind}") for kind in ("weight", "bias")])
    expected = rows + ridge(units, last - first, LAYERS_RIDGE)
    found = np.vstack([made.layers[0].weight, made.layers[0].bias])
    assert np.allclose(found, expected, atol=1e-3)
    assert np.array_equal(made.layers[1].weight, source.tensor("h.3.mlp.c_proj.weight"))
    assert np.array_equal(made.tensor("h.1.ln_1.bias"), source.tensor("h.3.ln_1.bias"))


def _stream(source: object, layer: int) -> np.ndarray:
    """The stream behind a layer on IDS: [tokens, n_embd]."""
    forward = Forward(source, lambda name, values: None)
    hidden = forward.embed(IDS)
    for each in range(layer + 1):
        forward.layer(each, hidden)
    return hidden.reshape(-1, hidden.shape[-1]).astype(np.float64)


def test_the_most_useful_units_worked_by_hand() -> None:
    """Three units over two tokens, and the bias: (1, -1), (3, 3) and (0, 4)."""
    units = np.array([[1.0, 3.0, 0.0, 1.0], [-1.0, 3.0, 4.0, 1.0]])
    rows = np.array([[2.0, 0.0], [9.0, 9.0], [0.0, 1.0], [0.0, 0.0]])
    # Norms around the mean: sqrt(2), 0 and sqrt(8); times the rows': 2.83, 0 and 2.83.
    assert useful_units(units.T @ units, rows, 1).tolist() == [0]
    assert useful_units(units.T @ units, rows, 2).tolist() == [0, 2]
