"""The gradients of the backward pass against those of PyTorch's autograd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gpt2onnx.export.calibration.activations import NUMPY_ACTIVATIONS
from gpt2onnx.export.calibration.backward_pass import derivative, watch_gradients
from gpt2onnx.export.calibration.forward_pass import Watcher
from gpt2onnx.export.calibration.sensitivity import sensitivity
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from tests.checkpoints import make_checkpoint
from tests.export.logits import load_reference

Float = NDArray[np.float32]
CONFIGS: list[dict[str, Any]] = [
    {},
    {"n_embd": 36, "n_head": 3, "n_inner": 50, "tie_word_embeddings": False},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True, "layer_norm_epsilon": 1e-2},
]
MATRICES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
# Where an activation has no derivative, or a step.
KINKS = np.array([-10, 0, 6, 10])


def windows() -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(257, size=(3, 30))


def of_torch(checkpoint: Path, windows: NDArray[np.int64]) -> list[dict[str, Float]]:
    """The gradients of each matrix's input, [windows * tokens, in], and of its output.

    A token's y is the first whose cumulative probability reaches the token's number of the seed.
    """
    model = load_reference(checkpoint)
    inputs: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(
            module: torch.nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor
        ) -> None:
            for kept, x in ((inputs, given[0]), (outputs, made)):
                x.retain_grad()
                kept[name] = x

        return hook

    for name, module in model.transformer.named_modules():
        if name.endswith(MATRICES):
            module.register_forward_hook(keep(name))
    log_p = torch.log_softmax(model(torch.from_numpy(windows)).logits, -1).flatten(0, 1)
    uniform = torch.from_numpy(np.random.default_rng(0).random((len(log_p), 1)))
    drawn = torch.searchsorted(log_p.detach().double().exp().cumsum(-1), uniform)
    (-log_p.gather(1, drawn)).sum().backward()  # type: ignore[no-untyped-call]
    return [
        {name: x.grad.flatten(0, 1).numpy() for name, x in kept.items() if x.grad is not None}
        for kept in (inputs, outputs)
    ]


def found(checkpoint: Path, windows: NDArray[np.int64]) -> list[dict[str, Float]]:
    told: list[dict[str, Float]] = [{}, {}]

    def keep(into: dict[str, Float]) -> Watcher:
        return lambda name, x: into.update({name: x.copy()})

    for _ in watch_gradients(open_checkpoint(checkpoint), windows, *map(keep, told)):
        pass
    return told


def away(found: Float, expected: Float) -> float:
    """The root mean square of the difference, in that of `expected`."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("config", CONFIGS)
def test_gradients_are_those_of_autograd(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = make_checkpoint(tmp_path, **config)
    told, expected = found(folder, windows()), of_torch(folder, windows())
    for some, other in zip(told, expected, strict=True):
        assert some.keys() == other.keys()
        for name in other:
            assert away(some[name], other[name]) < 1e-3, name


@pytest.mark.parametrize("name", sorted(NUMPY_ACTIVATIONS))
def test_through_every_activation(tmp_path: Path, name: str) -> None:
    folder = make_checkpoint(tmp_path, activation_function=name)
    told, expected = found(folder, windows()), of_torch(folder, windows())
    most = 0.03 if "relu" in name else 2e-3  # a unit at its kink has a slope between the two
    for some, other in zip(told, expected, strict=True):
        for matrix in other:
            assert away(some[matrix], other[matrix]) < most, matrix


@pytest.mark.parametrize("name", sorted(NUMPY_ACTIVATIONS))
def test_derivatives_are_those_of_autograd(name: str) -> None:
    from transformers.activations import ACT2FN

    x = np.concatenate([np.linspace(-12, 12, 4001), [-1e4, -90, 90, 1e4]]).astype(np.float32)
    x = x[np.abs(x[:, None] - KINKS).min(axis=1) > 0.02]
    given = torch.from_numpy(x).requires_grad_()
    ACT2FN[name](given).sum().backward()
    assert given.grad is not None
    slopes = derivative(NUMPY_ACTIVATIONS[name], x)
    np.testing.assert_allclose(slopes, given.grad.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("rank", [1, 8])
def test_directions_hold_what_the_svd_holds(
    tmp_path: Path, config: dict[str, Any], rank: int
) -> None:
    folder = make_checkpoint(tmp_path, **config)
    expected, _ = of_torch(folder, windows())
    directions, _ = sensitivity(open_checkpoint(folder), windows(), expected, rank)
    assert directions.keys() == expected.keys()
    for name, gradients in expected.items():
        singular = torch.linalg.svdvals(torch.from_numpy(gradients)).numpy()
        held = np.square(gradients @ directions[name]).sum()
        assert held > 0.995 * np.square(singular[:rank]).sum(), name
