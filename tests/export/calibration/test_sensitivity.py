"""The leading directions against numpy's SVD, and what comes of edges and of numbers too large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.calibration.backward_pass import score, watch_gradients
from gpt2onnx.export.calibration.sensitivity import OUTPUT_RANK, leading_directions, sensitivity
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from tests.checkpoints import make_checkpoint

Float = NDArray[np.float32]
NAMES = [
    f"h.{layer}.{matrix}"
    for layer in (0, 1)
    for matrix in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
]


def windows(count: int = 3, tokens: int = 30) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(257, size=(count, tokens))


def decaying(rows: int, inputs: int, first: float) -> Float:
    """Singular values of 1 / n, but for the first; all directions random."""
    random = np.random.default_rng(2)
    size = min(rows, inputs)
    left = np.linalg.qr(random.standard_normal((rows, size)))[0]
    right = np.linalg.qr(random.standard_normal((inputs, size)))[0]
    values = 1 / np.arange(1, size + 1)
    values[0] = first
    return (left * values @ right.T).astype(np.float32)


def assert_orthonormal(directions: Float, columns: int) -> None:
    """The first `columns` are; the others are zeros."""
    expected = np.diag((np.arange(directions.shape[1]) < columns).astype(np.float32))
    np.testing.assert_allclose(directions.T @ directions, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (200, 40), (20, 300)])
@pytest.mark.parametrize("first", [1, 100])
@pytest.mark.parametrize("size", [1e-30, 1, 1e30])
def test_directions_hold_what_the_svd_holds(
    shape: tuple[int, int], first: float, size: float
) -> None:
    rows = decaying(*shape, first)
    directions = leading_directions(rows * np.float32(size), 32)
    assert directions.dtype == np.float32
    assert directions.shape == (shape[1], 32)
    assert_orthonormal(directions, min(32, *shape))
    held = np.square(rows @ directions).sum(axis=0)
    expected = np.square(np.linalg.svd(rows, compute_uv=False)[:32])
    np.testing.assert_allclose(held[:4], expected[:4], rtol=1e-3)  # each, the first most
    assert held[1:].sum() > 0.99 * expected[1:].sum()


def test_zeros_have_no_directions() -> None:
    assert not leading_directions(np.zeros((5, 7), np.float32), 3).any()


@pytest.mark.parametrize(("count", "tokens"), [(3, 30), (1, 5), (1, 1)])
def test_columns_beyond_the_gradients_rank_are_zeros(
    checkpoint: Path, count: int, tokens: int
) -> None:
    directions, _ = sensitivity(open_checkpoint(checkpoint), windows(count, tokens), NAMES, 200)
    for name in NAMES:
        inputs = 128 if name.endswith("mlp.c_proj") else 32
        assert directions[name].shape == (inputs, 200)
        # What a block adds to the hidden states may change by a constant: layer norms take it away.
        rank = 31 if name.endswith("c_proj") else 32
        assert_orthonormal(directions[name], min(rank, count * tokens))


def test_only_what_is_named_and_always_the_same(checkpoint: Path) -> None:
    weights = open_checkpoint(checkpoint)
    everything = sensitivity(weights, windows(), NAMES, 4, NAMES)
    some = sensitivity(weights, windows(), NAMES[2:4], 4, NAMES[3:7])
    assert [part.keys() for part in everything] == [set(NAMES)] * 2
    assert [part.keys() for part in some] == [set(NAMES[2:4]), set(NAMES[3:7])]
    for part, all_of_it in zip(some, everything, strict=True):
        for name, found in part.items():
            np.testing.assert_array_equal(found, all_of_it[name])


def test_gradients_of_outputs_have_their_second_moments(checkpoint: Path) -> None:
    """All of them where a text's gradients have no more directions than are kept."""
    weights = open_checkpoint(checkpoint)
    told: dict[str, Float] = {}
    for _ in watch_gradients(
        weights, windows(1), lambda name, x: None, lambda name, x: told.update({name: x.copy()})
    ):
        pass
    found = sensitivity(weights, windows(1), (), 4, NAMES).outputs
    assert windows(1).size < OUTPUT_RANK
    for name, gradients in told.items():
        expected = gradients.T @ gradients
        assert found[name].shape == (OUTPUT_RANK, gradients.shape[1])
        away = np.linalg.norm(found[name].T @ found[name] - expected)
        assert away < 1e-4 * np.linalg.norm(expected), name


def test_tokens_are_drawn_from_their_distribution() -> None:
    p = np.array([0.5, 0, 0.2, 0.3], np.float32)
    with np.errstate(divide="ignore"):
        logits = np.tile(np.log(p), (40_000, 1))
    drawn = p - score(logits, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.sum(axis=1), 1, atol=1e-6)
    assert set(drawn.round(6).ravel()) == {0, 1}
    np.testing.assert_allclose(drawn.mean(axis=0), p, atol=0.01)  # four standard deviations


@pytest.mark.parametrize(
    ("factors", "where"),
    [
        ({"h.1.mlp.c_proj.weight": 1e38}, "h.1, reading a text"),
        (
            {"h.1.ln_2.weight": 1e-40, "h.1.mlp.c_fc.weight": 1e20, "h.1.mlp.c_proj.weight": 1e20},
            "h.1.mlp.c_fc, a text's gradients",
        ),
    ],
)
def test_numbers_that_leave_the_range(
    tmp_path: Path, factors: dict[str, float], where: str
) -> None:
    path = make_checkpoint(tmp_path, activation_function="linear") / "model.safetensors"
    tensors = load_file(path)
    for name, factor in factors.items():
        tensors[f"transformer.{name}"] *= np.float32(factor)
    tensors["transformer.h.1.ln_2.bias"][:] = 0
    tensors["transformer.h.1.mlp.c_fc.bias"][:] = 0
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=where):
        sensitivity(open_checkpoint(tmp_path), windows(), NAMES, 4)


def test_columns_beyond_the_rows_rank_are_zeros() -> None:
    random = np.random.default_rng(3)
    rows = random.standard_normal((200, 5)) @ random.standard_normal((5, 100))
    directions = leading_directions(rows.astype(np.float32), 32)
    assert_orthonormal(directions, 5)
    held = directions @ (directions.T @ rows.T)
    np.testing.assert_allclose(held, rows.T, atol=1e-4)
