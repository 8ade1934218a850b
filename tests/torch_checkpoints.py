"""The models of `checkpoints`, in transformers, and written by it in every format and type."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.checkpoints import DEFAULTS, random_weights, write_tokenizer

Format = Literal["safetensors", "sharded", "bin", "sharded-bin"]


def save_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    dtype: str = "float32",
    prefix: bool = True,
    format: Format = "safetensors",
    tokenizer: bool = True,
    **gpt2_config_overrides: Any,
) -> Path:
    """As transformers' save_pretrained writes it.

    `dtype` is the stored one: float32, float16 or bfloat16. `prefix=False` names the tensors as
    OpenAI's own repository does, `wte.weight` instead of `transformer.wte.weight`. The sharded
    formats split the weights over several files and an index.
    """
    model = random_model(seed, **gpt2_config_overrides).to(getattr(torch, dtype))
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    if not prefix:
        state = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
    model.save_pretrained(
        folder,
        state_dict=state,
        safe_serialization=not format.endswith("bin"),
        max_shard_size="40KB" if format.startswith("sharded") else "50GB",
    )
    if tokenizer:
        write_tokenizer(folder)
    return Path(folder)


def random_model(seed: int = 0, **gpt2_config_overrides: Any) -> GPT2LMHeadModel:
    """A GPT2LMHeadModel in evaluation mode, whose attention heeds every option of its config.

    The eager attention is asked for because transformers' SDPA attention passes over
    `scale_attn_weights` and `scale_attn_by_inverse_layer_idx`.
    """
    config = GPT2Config(**(DEFAULTS | gpt2_config_overrides))
    config._attn_implementation = "eager"
    model = GPT2LMHeadModel(config).eval()
    weights = random_weights(seed, **gpt2_config_overrides)
    state = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["transformer.wte.weight"]
    model.load_state_dict(state)
    return model
