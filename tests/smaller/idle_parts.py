"""Checkpoints of which a layer or some hidden units do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from tests.checkpoints import make_checkpoint


def make_idle_layer(folder: Path, layer: int, **overrides: Any) -> Path:
    """A layer adds nothing to the stream."""
    make_checkpoint(folder, **overrides)
    weights = load_file(folder / "model.safetensors")
    for name in ("attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"):
        weights[f"transformer.h.{layer}.{name}"][:] = 0
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def make_idle_units(folder: Path, **overrides: Any) -> Path:
    """Every second hidden unit's way out is zero."""
    make_checkpoint(folder, **overrides)
    weights = load_file(folder / "model.safetensors")
    for name, values in weights.items():
        if name.endswith("mlp.c_proj.weight"):
            values[1::2] = 0
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
