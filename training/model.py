"""The bundled target: its size and its training, and how good a model is on a text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from training.corpus import VOCAB_SIZE

POSITIONS = 1024


@dataclass(frozen=True)
class Recipe:
    """Every head is 64 wide, as in every GPT-2."""

    width: int
    layers: int
    heads: int
    steps: int
    learning_rate: float


TARGET = Recipe(width=256, layers=4, heads=4, steps=3600, learning_rate=1.5e-3)


def build_model(recipe: Recipe) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_positions=POSITIONS,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=VOCAB_SIZE - 1,
        eos_token_id=VOCAB_SIZE - 1,
    )
    model = GPT2LMHeadModel(config)
    for block in model.transformer.h:
        block.mlp.act = torch.nn.GELU(approximate="tanh")  # gelu_new, in one kernel
    return model


def forward(model: GPT2LMHeadModel, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """[batch, window], [batch] -> logits, float32 [batch * window, vocab]."""
    positions = offsets[:, None] + torch.arange(ids.shape[1])
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    return logits.float().view(-1, VOCAB_SIZE)


@dataclass(frozen=True)
class Measure:
    nats: float
    tokens: int

    @property
    def loss(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss)


def pieces(documents: list[np.ndarray]) -> Iterator[torch.Tensor]:
    """Consecutive pieces that share one token, [1, <= POSITIONS + 1]: each is predicted once."""
    for ids in documents:
        for start in range(0, len(ids) - 1, POSITIONS):
            yield torch.from_numpy(ids[None, start : start + POSITIONS + 1])


def piece_logits(model: GPT2LMHeadModel, ids: torch.Tensor) -> torch.Tensor:
    """[1, n + 1] -> float32 [n, vocab], without autocast."""
    with torch.no_grad():
        return model(input_ids=ids[:, :-1], use_cache=False).logits[0]


def measure(model: GPT2LMHeadModel, documents: list[np.ndarray]) -> Measure:
    nats, tokens = 0.0, 0
    for ids in pieces(documents):
        targets = ids[0, 1:]
        nats += cross_entropy(piece_logits(model, ids), targets, reduction="sum").item()
        tokens += len(targets)
    return Measure(nats, tokens)
