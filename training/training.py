"""How the bundled target is trained: batches, losses, steps, and the log that its card shows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2LMHeadModel

from training.model import POSITIONS, Recipe, build_model, forward, measure

SHORT_WINDOW = 256
TOKENS_PER_STEP = 4096
LONG_SHARE = 0.2  # of the steps, at the end, on windows of POSITIONS tokens


@dataclass(frozen=True)
class Batch:
    ids: torch.Tensor  # [batch, window + 1]: each token but the last predicts the next
    offsets: torch.Tensor  # [batch]: the position of each window's first token

    @property
    def inputs(self) -> torch.Tensor:
        return self.ids[:, :-1]

    @property
    def targets(self) -> torch.Tensor:
        return self.ids[:, 1:].reshape(-1)


def batches(stream: np.ndarray, window: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Endless epochs: each cuts the stream at a new phase and shuffles the windows."""
    rows = TOKENS_PER_STEP // window
    while True:
        starts = np.arange(rng.integers(window), len(stream) - window, window)
        rng.shuffle(starts)
        for first in range(0, len(starts) - rows + 1, rows):
            ids = stream[starts[first : first + rows, None] + np.arange(window + 1)]
            offsets = window * rng.integers(POSITIONS // window, size=rows)
            yield Batch(torch.from_numpy(ids), torch.from_numpy(offsets))


def next_token_loss(model: GPT2LMHeadModel, batch: Batch) -> torch.Tensor:
    return cross_entropy(forward(model, batch.inputs, batch.offsets), batch.targets)


def make_optimizer(model: GPT2LMHeadModel, learning_rate: float) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over one step in thirty, then a cosine down to 2 %."""
    warmup = max(1, steps // 30)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def make_schedule(optimizer: torch.optim.AdamW, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: learning_rate_factor(n, steps))


@dataclass
class Log:
    """Prints progress, and keeps the card's table: (step, training loss, held-out loss)."""

    steps: int
    rows: list[tuple[int, float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # since the last row
    started: float = field(default_factory=time.monotonic)
    minutes: float = 0.0

    def progress(self, step: int, loss: float) -> None:
        self.losses.append(loss)
        seconds = time.monotonic() - self.started
        self.minutes = seconds / 60
        if step % max(1, self.steps // 80) == 0 or step == self.steps:
            rate = step * TOKENS_PER_STEP / seconds
            left = self.minutes / step * (self.steps - step)
            print(
                f"step {step:5}/{self.steps}  loss {loss:.3f}  {rate:6.0f} tokens/s"
                f"  {left:4.1f} min left",
                flush=True,
            )

    def measured(self, step: int, held_out_loss: float) -> None:
        self.rows.append((step, float(np.mean(self.losses)), held_out_loss))
        self.losses.clear()
        print(f"step {step:5}/{self.steps}  held-out loss {held_out_loss:.3f}", flush=True)


def train(
    recipe: Recipe, stream: np.ndarray, held_out: list[np.ndarray], seed: int
) -> tuple[GPT2LMHeadModel, Log]:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build_model(recipe)
    optimizer = make_optimizer(model, recipe.learning_rate)
    schedule = make_schedule(optimizer, recipe.steps)
    log = Log(recipe.steps)
    long_steps = round(LONG_SHARE * recipe.steps)
    phases = [(recipe.steps - long_steps, SHORT_WINDOW, "eager"), (long_steps, POSITIONS, "sdpa")]
    step = 0
    for steps, window, attention in phases:
        model.set_attn_implementation(attention)  # the faster one for this window
        for batch in islice(batches(stream, window, rng), steps):
            step += 1
            log.progress(step, take_step(model, optimizer, next_token_loss(model, batch)))
            schedule.step()
            if step % max(1, recipe.steps // 8) == 0 or step == recipe.steps:
                log.measured(step, measure(model, held_out).loss)
    return model, log


def take_step(
    model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, loss: torch.Tensor
) -> float:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())
