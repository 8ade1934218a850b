"""Teacher in, smaller student out: an ordinary checkpoint, for itself or as the teacher's draft.

Puts the parts together; knows nothing of how each does its work.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np

from gpt2onnx.errors import (
    ExportError,
    Given,
    InstallationError,
    ParameterError,
    TextWarning,
)
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint, tensor_shapes
from gpt2onnx.export.exporter import export
from gpt2onnx.export.verification.torch_model import load_model, missing
from gpt2onnx.export.writing.folder import check_replaceable
from gpt2onnx.files import as_path
from gpt2onnx.flags import flag, one_of
from gpt2onnx.smaller.checkpoint import Arrays, NewCheckpoint, open_source, tokenizer_files
from gpt2onnx.smaller.distill.corpus import Corpus, of_texts
from gpt2onnx.smaller.distill.measures import Measure, measure
from gpt2onnx.smaller.distill.recipe import Recipe
from gpt2onnx.smaller.distill.run_folder import RunFolder
from gpt2onnx.smaller.distill.samples import written
from gpt2onnx.smaller.distill.speculation import speedup
from gpt2onnx.smaller.distill.student import Student, student_of
from gpt2onnx.smaller.distill.training import Progress, Training, deterministic, steps_in
from gpt2onnx.staging import work_folder

STEPS, SAMPLES = 2000, 2000
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Distilled:
    """What a distillation made, and what that is worth on the text held out.

    `speedup` is greedy decoding with the student as its teacher's draft beside decoding without;
    None where it wasn't measured.
    """

    folder: Path
    steps: int
    best_step: int
    measure: Measure
    text_bytes: int
    speedup: float | None

    @property
    def bits_per_byte(self) -> float:
        return self.measure.nats / math.log(2) / self.text_bytes

    @property
    def teacher_bits_per_byte(self) -> float:
        return self.measure.teacher_nats / math.log(2) / self.text_bytes

    def __str__(self) -> str:
        found = self.measure
        timed = "" if self.speedup is None else f", {self.speedup:.2f} times as fast as without"
        return (
            f"{self.folder}: step {self.best_step:,} of {self.steps:,}; on {found.tokens:,} tokens"
            f" held out perplexity {found.perplexity:.2f}, {self.bits_per_byte:.3f} bits a byte"
            f" (its teacher {found.teacher_perplexity:.2f}, {self.teacher_bits_per_byte:.3f}), KL"
            f" {found.kl:.3f}; as a draft it foresees {found.acceptance:.1%} of its teacher's"
            f" greedy tokens{timed}"
        )


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

    texts: what it reads; without any its teacher writes `samples` texts. held_out: texts to measure
    it on; by default the end of the others. hours, or steps: how long; in the first case a few
    steps are timed. tokens, window: of a step, and of each of its rows. text_share: how much of the
    loss is the text's own, and not its teacher's logits'. resume: go on with a run that was
    stopped, which was called with the same; its folder is OUT.distill until it is over, with the
    best student so far.

    Raises CheckpointError and its kinds, ExportError and its kinds, ParameterError, PromptError,
    InstallationError.
    """
    flag("resume", resume)
    device = _device(device)
    _check_length(hours, steps, texts, samples)
    out = as_path(out, "out", ExportError)
    check_replaceable(out, force=None)
    checkpoint = open_source(teacher, revision)
    student = student_of(checkpoint, layers, width)
    recipe = Recipe(
        steps=steps or STEPS,
        tokens=tokens,
        window=window,
        positions=checkpoint.config.n_positions,
        learning_rate=learning_rate,
        text_share=text_share,
        seed=seed,
    )
    asked = recipe.described() | {
        "teacher": _digest(checkpoint.tensor("wte.weight")),
        "texts": _digest(*texts),
        "held_out": _digest(*held_out),
        "layers": layers,
        "width": width,
        "samples": samples,
        "hours": hours,
        "steps": steps,
    }
    run = RunFolder(out)
    if resume:
        run.require_same(asked)
        corpus = run.corpus()
        recipe = replace(recipe, steps=run.asked()["planned_steps"])
    else:
        run.require_none()
        corpus = _corpus(checkpoint, texts, held_out, samples, seed, progress)
        corpus.check(recipe.positions)
    teach = _Teaching(checkpoint, student, corpus, run, device)
    if not resume:
        teach.look_at_text()
        if hours is not None:
            recipe = replace(recipe, steps=steps_in(3600 * hours, teach.training(recipe)))
        run.begin({**asked, "planned_steps": recipe.steps}, corpus)
    training = teach.training(recipe)
    if state := run.state(device):
        training.restore(state)
    with deterministic():
        training.run(progress)
    return teach.finish(training, out, time_it, progress)


@dataclass(frozen=True)
class _Teaching:
    """A teacher with its student and what they read."""

    teacher: Checkpoint
    student: Student
    corpus: Corpus
    run: RunFolder
    device: str

    def look_at_text(self) -> None:
        """Warn where the teacher knows nothing of what is held out: little is learned of that."""
        model = load_model(self.teacher, self.teacher).to(self.device)
        config = self.teacher.config
        pieces = self.corpus.pieces(config.n_positions, config.n_positions)
        found = measure(model, model, pieces, self.device)
        if found.nats >= found.tokens * math.log(config.vocab_size):
            warn(
                f"the text held out: its teacher's perplexity is {found.perplexity:,.0f}, no better"
                f" than chance among {config.vocab_size:,} tokens; is it of its language?",
                TextWarning,
                stacklevel=3,
            )

    def training(self, recipe: Recipe) -> Training:
        """A training that hasn't begun."""
        return Training(
            self._model(self.student.weights),
            load_model(self.teacher, self.teacher).to(self.device),
            recipe,
            self.corpus,
            self.device,
            self.run.save_state,
            lambda model, step: self.run.keep(self._checkpoint(model), step),
        )

    def finish(self, training: Training, out: Path, time_it: bool, progress: Progress) -> Distilled:
        """Write the best student, measure it as it was written, and end the run."""
        best = self.run.best
        assert best is not None  # the last step is measured, and so one is best
        made = open_source(best)
        model = self._model(made)
        pieces = self.corpus.pieces(training.recipe.positions)
        progress("measuring", 0, 1)
        found = measure(model, training.teacher, pieces, self.device)
        faster = self._speedup(best) if time_it else None
        self._checkpoint(model).write(out)
        self.run.remove()
        return Distilled(
            *(out, training.recipe.steps, training.best_step, found),
            *(self.corpus.held_out_bytes, faster),
        )

    def _speedup(self, best: Path) -> float:
        with work_folder("distill") as folder:
            teacher = export(self.teacher.folder, folder / "teacher", verify=False).folder
            student = export(best, folder / "student", verify=False).folder
            return speedup(teacher, student, self.corpus)

    def _model(self, weights: Any) -> Any:
        config_json = self.student.config_json
        like = replace(self.teacher, config=weights.config, config_json=config_json)
        return load_model(like, weights).to(self.device)

    def _checkpoint(self, model: Any) -> NewCheckpoint:
        """A student as it is now, in its teacher's type."""
        config = self.student.weights.config
        state = {
            name.removeprefix("transformer."): tensor.detach().float().cpu().numpy()
            for name, tensor in model.state_dict().items()
        }
        tensors = {name: state[name] for name in tensor_shapes(config)}
        return NewCheckpoint(
            Arrays(config, tensors),
            self.teacher.dtype,
            self.student.config_json,
            self.teacher.generation_config,
            tokenizer_files(self.teacher.folder),
        )


def _corpus(
    teacher: Checkpoint,
    texts: Sequence[str],
    held_out: Sequence[str],
    samples: int | None,
    seed: int,
    progress: Progress,
) -> Corpus:
    first = _first_token(teacher)
    if texts:
        return of_texts(teacher.tokenizer, first, texts, held_out)
    with work_folder("distill") as folder:
        model = export(teacher.folder, folder / "teacher", verify=False).folder
        return written(model, first, SAMPLES if samples is None else samples, seed, progress)


def _first_token(teacher: Checkpoint) -> int | None:
    config = teacher.config
    ends = config.eos_token_id
    end = ends[0] if isinstance(ends, tuple) and ends else ends
    first = end if config.bos_token_id is None else config.bos_token_id
    return first if isinstance(first, int) and 0 <= first < config.vocab_size else None


def _digest(*parts: Any) -> str:
    """Of texts or arrays."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _check_length(
    hours: float | None, steps: int | None, texts: Sequence[str], samples: int | None
) -> None:
    if hours is not None and steps is not None:
        raise ParameterError(
            *(Given("hours", hours), " and ", Given("steps", steps)),
            " each say how long it takes; leave one out",
        )
    if hours is not None and not (type(hours) in (int, float) and 0 < hours < math.inf):
        raise ParameterError(Given("hours", hours), ": expected a number above 0")
    if texts and samples is not None:
        raise ParameterError(Given("samples", samples), " has no effect beside texts; leave it out")


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
