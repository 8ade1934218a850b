"""Small random GPT-2 checkpoints, written by transformers, for the tests of every part.

Every parameter is random, biases and layer norm gains too: a graph that forgets one is found out.
The tokenizer has one token a byte and `<|endoftext|>`, so any text can be encoded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

Format = Literal["safetensors", "sharded", "bin", "sharded-bin"]

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 256
DEFAULTS: dict[str, Any] = {
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 64,
    "vocab_size": 257,
    "bos_token_id": END_OF_TEXT_ID,
    "eos_token_id": END_OF_TEXT_ID,
}


def make_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    dtype: str = "float32",
    prefix: bool = True,
    format: Format = "safetensors",
    tokenizer: bool = True,
    **gpt2_config_overrides: Any,
) -> Path:
    """Write a checkpoint into `folder`, made if it isn't there, and return `folder`.

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
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = ".ln_" in name and name.endswith(".weight")
            parameter.normal_(float(gain), 0.3, generator=generator)
    return model


def write_tokenizer(folder: Path) -> None:
    """Write GPT-2's tokenizer files with no merges: 256 bytes, then `<|endoftext|>`."""
    vocab = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    vocab[END_OF_TEXT] = END_OF_TEXT_ID
    folder = Path(folder)
    vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
    vocab_file.write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    merges_file.write_text("#version: 0.2\n", encoding="utf-8")
    GPT2TokenizerFast(str(vocab_file), str(merges_file)).save_pretrained(folder)
