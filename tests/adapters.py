"""Small random LoRA adapters for the checkpoints of `checkpoints`, written without PEFT."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[np.float32]

PREFIX = "base_model.model.transformer."
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "some/base",
    "r": 4,
    "lora_alpha": 8,
    "fan_in_fan_out": True,
    "target_modules": ["c_attn"],
    "init_lora_weights": True,
}


def make_adapter(
    folder: Path,
    *,
    seed: int = 0,
    tensors: Mapping[str, Array | None] | None = None,
    **options: Any,
) -> Path:
    """Write an adapter of every layer's c_attn into `folder`, and return that.

    `tensors` are put beside its own, by their names in the file; those that are None are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = {**factors(seed), **(tensors or {})}
    save_file(
        {name: tensor for name, tensor in named.items() if tensor is not None},
        folder / "adapter_model.safetensors",
        {"format": "pt"},
    )
    write_config(folder, **options)
    return folder


def write_config(folder: Path, **options: Any) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | options))


def factors(seed: int = 0) -> dict[str, Array]:
    draw = np.random.default_rng(seed)
    return {
        f"{PREFIX}h.{layer}.attn.c_attn.lora_{factor}.weight": draw.normal(0, 0.1, shape).astype(
            "f4"
        )
        for layer in range(2)
        for factor, shape in (("A", (4, 32)), ("B", (96, 4)))
    }
