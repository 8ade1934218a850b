"""Write a GPT-2 checkpoint of a real size with random weights, to measure export and speed on.

    python -m benchmarks.checkpoints.random_weights gpt2 /tmp/gpt2-random

Every parameter is normal with GPT-2's own standard deviation, 0.02 (a layer norm's gain around 1):
shapes, time and memory are GPT-2's, and the text is noise. One shard a layer keeps memory small.

Logits of such weights are nearly equal. `--gain 7`, the last layer norm's, spreads them until
their entropy is some 4 nats, near a trained GPT-2's: for what depends on how many are likely.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

SIZES = {  # layers, heads, width
    "distilgpt2": (6, 12, 768),
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}
VOCAB, POSITIONS = 50257, 1024
Tensors = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gain", type=float, default=1.0, help="of the last layer norm")
    parser.add_argument("--tokenizer", type=Path, help="folder with GPT-2's vocab.json, merges.txt")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    rng = np.random.default_rng(arguments.seed)
    write_weights(arguments.out, arguments.size, rng, arguments.gain)
    write_config(arguments.out, arguments.size)
    write_tokenizer(arguments.out, arguments.tokenizer)


def shards(size: str, rng: np.random.Generator, gain: float = 1.0) -> Iterator[Tensors]:
    """The embeddings, then a layer at a time."""
    layers, _, width = SIZES[size]

    def normal(*shape: int, mean: float = 0.0) -> np.ndarray:
        return mean + 0.02 * rng.standard_normal(shape, dtype=np.float32)

    def norm(name: str, gain: float = 1.0) -> Tensors:
        return {f"{name}.weight": normal(width, mean=gain), f"{name}.bias": normal(width)}

    def linear(name: str, inputs: int, outputs: int) -> Tensors:
        return {f"{name}.weight": normal(inputs, outputs), f"{name}.bias": normal(outputs)}

    yield {"wte.weight": normal(VOCAB, width), "wpe.weight": normal(POSITIONS, width)}
    for layer in range(layers):
        yield {
            **norm(f"h.{layer}.ln_1"),
            **linear(f"h.{layer}.attn.c_attn", width, 3 * width),
            **linear(f"h.{layer}.attn.c_proj", width, width),
            **norm(f"h.{layer}.ln_2"),
            **linear(f"h.{layer}.mlp.c_fc", width, 4 * width),
            **linear(f"h.{layer}.mlp.c_proj", 4 * width, width),
        }
    yield norm("ln_f", gain)


def write_weights(out: Path, size: str, rng: np.random.Generator, gain: float = 1.0) -> None:
    count = SIZES[size][0] + 2
    weight_map = {}
    for number, tensors in enumerate(shards(size, rng, gain), 1):
        name = f"model-{number:05}-of-{count:05}.safetensors"
        save_file(tensors, out / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (out / "model.safetensors.index.json").write_text(json.dumps(index))


def write_config(out: Path, size: str) -> None:
    layers, heads, width = SIZES[size]
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_layer": layers,
        "n_head": heads,
        "n_embd": width,
        "n_positions": POSITIONS,
        "vocab_size": VOCAB,
        "bos_token_id": VOCAB - 1,
        "eos_token_id": VOCAB - 1,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2))


def write_tokenizer(out: Path, source: Path | None) -> None:
    """GPT-2's tokenizer where its files are at hand, else one token a byte."""
    if source is not None:
        for name in ("vocab.json", "merges.txt"):
            (out / name).write_bytes((source / name).read_bytes())
        return
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({token: index for index, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>")])
    tokenizer.save(str(out / "tokenizer.json"))


if __name__ == "__main__":
    main()
