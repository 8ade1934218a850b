"""Small random GPT-2 checkpoints for the tests of every part, written without PyTorch.

Every parameter is random, biases and layer norm gains too: a graph that forgets one is found out.
The tokenizer has one token a byte and `<|endoftext|>`, so any text can be encoded.
`torch_checkpoints` writes the same models in other formats and types.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

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
# What a GPT2Config of transformers has beside them.
USUAL: dict[str, Any] = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
}

Array = NDArray[np.float32]


def make_checkpoint(folder: Path, *, seed: int = 0, **gpt2_config_overrides: Any) -> Path:
    """Write a checkpoint into `folder`, made if it isn't there, and return `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = USUAL | DEFAULTS | gpt2_config_overrides
    weights = random_weights(seed, **gpt2_config_overrides)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id")}
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {"_from_model_config": True, **ends})
    write_tokenizer(folder)
    return folder


def random_weights(seed: int = 0, **gpt2_config_overrides: Any) -> dict[str, Array]:
    """A GPT-2's tensors by transformers' names: gains about 1, everything else about 0."""
    bits = np.random.MT19937()
    bits._legacy_seeding(seed)
    weights = {}
    for name, shape in _shapes(**(USUAL | DEFAULTS | gpt2_config_overrides)):
        gain = ".ln_" in name and name.endswith(".weight")
        weights[name] = _normal(bits, math.prod(shape)).reshape(shape) + np.float32(gain)
    return weights


def _normal(bits: np.random.MT19937, count: int) -> Array:  # [count]
    """What `torch.Tensor.normal_(0, 0.3)` draws on the CPU, to rounding.

    So a seed's model writes the texts that it writes where PyTorch drew it. Box-Muller over groups
    of 16; where they don't come out even, the last 16 numbers are drawn anew.
    """
    drawn = _groups(bits, count // 16).ravel()
    if rest := count % 16:
        bits.random_raw(rest)  # drawn in vain
        left = max(count - 16, 0)
        drawn = np.concatenate([drawn[:left], _groups(bits, 1)[0, -min(count, 16) :]])
    return np.float32(0.3) * drawn


def _groups(bits: np.random.MT19937, count: int) -> Array:  # [count, 16]
    uniform = (bits.random_raw(16 * count) % 2**24).astype(np.float32) / np.float32(2**24)
    first, second = np.split(uniform.reshape(count, 16), 2, axis=1)
    radius = np.sqrt(-2 * np.log(1 - first))
    angle = np.float32(2 * np.pi) * second
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _shapes(
    *,
    n_embd: int,
    n_layer: int,
    n_positions: int,
    vocab_size: int,
    n_inner: int | None,
    tie_word_embeddings: bool,
    **_: Any,
) -> Iterator[tuple[str, tuple[int, ...]]]:
    d, inner = n_embd, n_inner or 4 * n_embd
    yield "transformer.wte.weight", (vocab_size, d)
    yield "transformer.wpe.weight", (n_positions, d)
    for layer in range(n_layer):
        block = f"transformer.h.{layer}"
        yield from _norm(f"{block}.ln_1", d)
        yield from _linear(f"{block}.attn.c_attn", d, 3 * d)
        yield from _linear(f"{block}.attn.c_proj", d, d)
        yield from _norm(f"{block}.ln_2", d)
        yield from _linear(f"{block}.mlp.c_fc", d, inner)
        yield from _linear(f"{block}.mlp.c_proj", inner, d)
    yield from _norm("transformer.ln_f", d)
    if not tie_word_embeddings:
        yield "lm_head.weight", (vocab_size, d)


def _norm(name: str, d: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (d,)
    yield f"{name}.bias", (d,)


def _linear(name: str, n_in: int, n_out: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """OpenAI's Conv1D: [in, out]."""
    yield f"{name}.weight", (n_in, n_out)
    yield f"{name}.bias", (n_out,)


def write_tokenizer(folder: Path) -> None:
    """Write GPT-2's tokenizer files with no merges: 256 bytes, then `<|endoftext|>`."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: index for index, symbol in enumerate([*symbols, END_OF_TEXT])}
    _write_json(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = Tokenizer(
        models.BPE(vocab, [], continuing_subword_prefix="", end_of_word_suffix="")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    sides = dict.fromkeys(("lstrip", "rstrip", "single_word"), False)
    token = {"content": END_OF_TEXT, "normalized": True, **sides}
    roles = ("bos_token", "eos_token", "unk_token")
    _write_json(folder / "special_tokens_map.json", dict.fromkeys(roles, token))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "GPT2Tokenizer",
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": {END_OF_TEXT_ID: {**token, "special": True}},
            "clean_up_tokenization_spaces": False,
            "errors": "replace",
            "pad_token": None,
            **dict.fromkeys(roles, END_OF_TEXT),
        },
    )


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
