"""A student's training: steps that are a function of their number, so that a run can go on.

Data and positions of step n are drawn from the seed and n; with the student, the optimizer's state
and n a run goes on bit for bit, on one machine with as many threads. Dropout is off.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.smaller.distill.corpus import Corpus
from gpt2onnx.smaller.distill.measures import Measure, measure
from gpt2onnx.smaller.distill.recipe import LONG_SHARE, Recipe

MEASURED = 16_384  # tokens held out that a measure between two steps reads
SAVE_EVERY = 300.0  # seconds
BETAS, DECAY, LONGEST_GRADIENT = (0.9, 0.98), 0.1, 1.0


class Progress(Protocol):
    """Told how much of what `label` says is done; `before` of it when it began."""

    def __call__(
        self, label: str, done: int, total: int, note: str = "", before: int = 0
    ) -> None: ...


@dataclass
class Training:
    """A student, its teacher (models of transformers', on `device`), and how far they are.

    `save` keeps a state, `keep` the student of a step, which is the best one so far.
    """

    student: Any
    teacher: Any
    recipe: Recipe
    corpus: Corpus
    device: str
    save: Callable[[dict[str, Any]], None]
    keep: Callable[[Any, int], None]
    step: int = 0
    best_step: int = 0
    best_loss: float = float("inf")
    measured: Measure | None = None
    _optimizer: Any = field(init=False)

    def __post_init__(self) -> None:
        for model in (self.student, self.teacher):
            prepare(model)
        for parameter in self.student.parameters():  # a file's own memory, which isn't written to
            parameter.data = parameter.data.clone()
        self._optimizer = _optimizer(self.student)

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "best_step": self.best_step,
            "best_loss": self.best_loss,
            "student": self.student.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that was saved."""
        self.student.load_state_dict(state["student"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.best_step = state["step"], state["best_step"]
        self.best_loss = state["best_loss"]

    def run(self, progress: Progress) -> None:
        before, saved = self.step, time.monotonic()
        losses: list[float] = []
        while self.step < self.recipe.steps:
            losses.append(self.take_step())
            if self.recipe.measures_at(self.step):
                self._measure()
            if self.recipe.measures_at(self.step) or time.monotonic() - saved > SAVE_EVERY:
                self.save(self.state())
                saved = time.monotonic()
            note = f", loss {np.mean(losses[-20:]):.3f}"
            if self.measured:
                note += f", held-out perplexity {self.measured.perplexity:.2f}"
            progress("training", self.step, self.recipe.steps, note, before)

    def take_step(self) -> float:
        """One step, and its loss."""
        import torch

        self.step += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        loss = self._loss()
        if not loss.isfinite():
            raise ParameterError(
                Given("learning_rate", self.recipe.learning_rate),
                f": the loss is no number any more at step {self.step}; begin again with less",
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), LONGEST_GRADIENT)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(loss.detach())

    def _loss(self) -> Any:
        import torch
        from torch.nn.functional import kl_div, nll_loss

        window = self.recipe.window_at(self.step)
        rows = max(1, self.recipe.tokens // window)
        rng = np.random.default_rng([self.recipe.seed, self.step])
        batch = self.corpus.batch(rng, rows, window)
        ids, learned = (torch.from_numpy(part).to(self.device) for part in batch)
        # A short window stands anywhere: every position learns from the first step on, and none has
        # always the same part of a window.
        starts = rng.integers(self.recipe.positions - window + 1, size=(rows, 1))
        positions = torch.from_numpy(starts + np.arange(window)).to(self.device)
        found = self._log_probabilities(self.student, ids[:, :-1], positions)[learned]
        text = nll_loss(found, ids[:, 1:].flatten()[learned])
        share = self.recipe.text_share
        if share == 1:
            return text
        with torch.no_grad():
            wanted = self._log_probabilities(self.teacher, ids[:, :-1], positions)[learned]
        kl = kl_div(found, wanted, reduction="batchmean", log_target=True)
        return (1 - share) * kl + share * text

    def _log_probabilities(self, model: Any, ids: Any, positions: Any) -> Any:
        """[rows, window] -> [rows * window, vocab]."""
        import torch

        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        return logits.float().log_softmax(-1).flatten(0, 1)

    def _measure(self) -> None:
        pieces = self.corpus.pieces(self.recipe.positions, MEASURED)
        self.measured = measure(self.student, self.teacher, pieces, self.device)
        share = self.recipe.text_share
        loss = (1 - share) * self.measured.kl
        loss += share * self.measured.nats / self.measured.tokens
        if loss < self.best_loss:
            self.best_step, self.best_loss = self.step, loss
            self.keep(self.student, self.step)


@contextmanager
def deterministic() -> Iterator[None]:
    """Within the block the same numbers give the same bits, on a GPU as well."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS' own condition
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def prepare(model: Any) -> None:
    """Without dropout, and with GPT-2's activation in one kernel."""
    import torch

    model.eval()
    if model.config.activation_function == "gelu_new":
        for block in model.transformer.h:
            block.mlp.act = torch.nn.GELU(approximate="tanh")


def steps_in(seconds: float, training: Training) -> int:
    """How many steps there is time for, by a step of each window; `training` is spent with that."""
    recipe, taken = training.recipe, []
    for step in (0, 1, recipe.steps - 1):  # the first warms up
        training.step = step
        started = time.monotonic()
        training.take_step()
        taken.append(time.monotonic() - started)
    return max(1, round(seconds / ((1 - LONG_SHARE) * taken[1] + LONG_SHARE * taken[2])))


def _optimizer(model: Any) -> Any:
    import torch

    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=BETAS, fused=True)
