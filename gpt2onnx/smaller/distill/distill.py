"""Teacher in, smaller student out: an ordinary checkpoint, for itself or as the teacher's draft.

Puts the parts together; knows nothing of how each does its work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from gpt2onnx.errors import (
    ExportError,
    Given,
    InstallationError,
    ParameterError,
)
from gpt2onnx.export.checkpoint.checkpoint import tensor_shapes
from gpt2onnx.export.verification.torch_model import missing
from gpt2onnx.export.writing.folder import check_replaceable
from gpt2onnx.files import as_path
from gpt2onnx.flags import flag, one_of
from gpt2onnx.smaller.checkpoint import open_source
from gpt2onnx.smaller.distill.material import Material, digest
from gpt2onnx.smaller.distill.recipe import Recipe
from gpt2onnx.smaller.distill.run_folder import RunFolder
from gpt2onnx.smaller.distill.student import student_of
from gpt2onnx.smaller.distill.teaching import Teaching, Worth
from gpt2onnx.smaller.distill.training import Progress, deterministic

STEPS = 2000
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Distilled:
    """What a distillation made: the best of so many steps, and what it is worth."""

    folder: Path
    steps: int
    best_step: int
    worth: Worth

    def __str__(self) -> str:
        step = f"{self.folder}: step {self.best_step:,} of {self.steps:,}"
        return f"{step}; {self.worth}"


def _silent(label: str, done: int, total: int, note: str = "", before: int = 0) -> None:
    """Show nothing."""


def distill(
    teacher: str | Path,
    out: str | Path,
    *,
    layers: int,
    width: int | None = None,
    texts: Sequence[str] = (),
    held_out: Sequence[str] = (),
    samples: int | None = None,
    greedy: bool = False,
    hours: float | None = None,
    steps: int | None = None,
    tokens: int = 4096,
    window: int = 256,
    learning_rate: float = 1e-3,
    text_share: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    time_it: bool = True,
    revision: str | None = None,
    progress: Progress = _silent,
) -> Distilled:
    """Train a student with fewer `layers`, and of a smaller `width`, on its teacher's logits.

    texts: what it reads; without any its teacher writes `samples` texts. With both the teacher
    writes so many, each behind a piece of the texts, drawn as it is or, with `greedy`, its most
    likely tokens: what a draft for greedy decoding is to foresee. held_out: texts to measure it on;
    by default the end of the others. hours, or steps: how long; in the first case a few
    steps are timed. tokens, window: of a step, and of each of its rows. text_share: how much of the
    loss is the text's own, and not its teacher's logits'. resume: go on with a run that was
    stopped, which was called with the same; its folder is OUT.distill until it is over, with the
    best student so far.

    Raises CheckpointError and its kinds, ExportError and its kinds, ParameterError, PromptError,
    InstallationError.
    """
    flag("resume", resume)
    flag("greedy", greedy)
    device = _device(device)
    _check_length(hours, steps)
    material = Material(texts, held_out, samples, greedy)
    out = as_path(out, "out", ExportError)
    check_replaceable(out, force=None)
    checkpoint = open_source(teacher, revision)
    student = student_of(checkpoint, layers, width)
    recipe = Recipe(
        steps=STEPS if steps is None else steps,
        tokens=tokens,
        window=window,
        positions=checkpoint.config.n_positions,
        learning_rate=learning_rate,
        text_share=text_share,
        seed=seed,
    )
    tensors = map(checkpoint.tensor, tensor_shapes(checkpoint.config))
    asked = {
        **recipe.described(),
        **material.described(),
        "teacher": digest(chain([str(checkpoint.config)], tensors)),
        "layers": layers,
        "width": width,
        "hours": hours,
        "steps": steps,
    }
    teaching = Teaching(checkpoint, student, RunFolder(out), device)
    if resume:
        training = teaching.resume(asked, recipe)
    else:
        teaching.run.require_none()
        corpus = material.corpus(checkpoint, recipe, progress)
        training = teaching.begin(asked, recipe, corpus, hours)
    with deterministic():
        training.run(progress)
    progress("measuring", 0, 1)
    worth = teaching.finish(training, out, time_it)
    return Distilled(out, training.recipe.steps, training.best_step, worth)


def _check_length(hours: float | None, steps: int | None) -> None:
    if hours is not None and steps is not None:
        raise ParameterError(
            *(Given("hours", hours), " and ", Given("steps", steps)),
            " each say how long it takes; leave one out",
        )
    if hours is not None and not (type(hours) in (int, float) and 0 < hours < math.inf):
        raise ParameterError(Given("hours", hours), ": expected a number above 0")


def _device(device: str) -> str:
    one_of("device", device, DEVICES)
    if absent := missing():
        raise InstallationError(
            f"training needs {' and '.join(absent)}: pip install 'gpt2onnx[cpu,train]'"
        )
    import torch

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ParameterError(Given("device", device), ": PyTorch finds no CUDA device here")
    return device if device != "auto" else "cuda" if there else "cpu"
