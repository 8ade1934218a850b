"""A teacher and its student: a training that begins or goes on, and what is written at its end.

Knows checkpoints and folders; knows nothing of steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from warnings import warn

from gpt2onnx.errors import CheckpointError, ExportError, Given, TextWarning
from gpt2onnx.export.checkpoint.checkpoint import Arrays, Checkpoint, Weights, tensor_shapes
from gpt2onnx.export.exporter import export
from gpt2onnx.export.verification.torch_model import load_model
from gpt2onnx.smaller.checkpoint import NewCheckpoint, open_source, tokenizer_files
from gpt2onnx.smaller.distill.corpus import Corpus
from gpt2onnx.smaller.distill.measures import Measure, measure
from gpt2onnx.smaller.distill.recipe import Recipe
from gpt2onnx.smaller.distill.run_folder import STATE, RunFolder
from gpt2onnx.smaller.distill.speculation import speedup
from gpt2onnx.smaller.distill.student import Student
from gpt2onnx.smaller.distill.training import Training, steps_in
from gpt2onnx.staging import work_folder


@dataclass(frozen=True)
class Worth:
    """What a student is worth on a text held out, of `text_bytes`.

    `speedup` is greedy decoding with it as its teacher's draft beside decoding without; None where
    it wasn't timed.
    """

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
            f"on {found.tokens:,} tokens held out perplexity {found.perplexity:.2f},"
            f" {self.bits_per_byte:.3f} bits a byte (its teacher {found.teacher_perplexity:.2f},"
            f" {self.teacher_bits_per_byte:.3f}), KL {found.kl:.3f}; as a draft it foresees"
            f" {found.acceptance:.1%} of its teacher's greedy tokens{timed}"
        )


@dataclass(frozen=True)
class Teaching:
    """`run` is the folder of their run, `device` what PyTorch computes on."""

    teacher: Checkpoint
    student: Student
    run: RunFolder
    device: str

    def begin(
        self, asked: Mapping[str, Any], recipe: Recipe, corpus: Corpus, hours: float | None
    ) -> Training:
        """A new run; with `hours`, of as many steps as there is time for."""
        corpus.check(recipe.positions)
        self._look_at(corpus)
        if hours is not None:
            steps = steps_in(3600 * hours, self._training(recipe, corpus))
            recipe = replace(recipe, steps=steps)
        self.run.begin({**asked, "planned_steps": recipe.steps}, corpus)
        return self._training(recipe, corpus)

    def resume(self, asked: Mapping[str, Any], recipe: Recipe) -> Training:
        """The run that isn't over, where it was saved last. Raises as RunFolder does."""
        self.run.require_same(asked)
        steps: Any = self.run.asked().get("planned_steps")
        training = self._training(replace(recipe, steps=steps), self.run.corpus())
        if state := self.run.state(self.device):
            try:
                training.restore(state)
            except (KeyError, ValueError, RuntimeError, TypeError) as error:
                raise CheckpointError(
                    f"{self.run.path / STATE}: of another run, or damaged: {error!s:.100}",
                    path=self.run.path / STATE,
                ) from error
        return training

    def finish(self, training: Training, out: Path, time_it: bool) -> Worth:
        """Measure the best student as it was kept, write it to `out`, and end the run."""
        best = self.run.best
        if best is None:
            raise ExportError(
                "no step gave a student whose loss is a number: lower ", Given("learning_rate")
            )
        model = self._model(open_source(best))
        pieces = training.corpus.pieces(training.recipe.positions)
        found = measure(model, training.teacher, pieces, self.device)
        faster = self._speedup(best, training.corpus) if time_it else None
        self._checkpoint(model).write(out)
        self.run.remove()
        return Worth(found, training.corpus.held_out_bytes, faster)

    def _look_at(self, corpus: Corpus) -> None:
        """Warn where the teacher knows nothing of what is held out: little is learned of that."""
        config = self.teacher.config
        model = load_model(self.teacher, self.teacher).to(self.device)
        pieces = corpus.pieces(config.n_positions, config.n_positions)
        found = measure(model, model, pieces, self.device)
        if found.nats >= found.tokens * math.log(config.vocab_size):
            warn(
                f"the text held out: its teacher's perplexity is {found.perplexity:,.0f}, no better"
                f" than chance among {config.vocab_size:,} tokens; is it of its language?",
                TextWarning,
                stacklevel=4,
            )

    def _training(self, recipe: Recipe, corpus: Corpus) -> Training:
        """A training that hasn't begun."""
        return Training(
            self._model(self.student.weights),
            load_model(self.teacher, self.teacher).to(self.device),
            recipe,
            corpus,
            self.device,
            self.run.save_state,
            lambda model, step: self.run.keep(self._checkpoint(model), step),
        )

    def _speedup(self, best: Path, corpus: Corpus) -> float:
        with work_folder("distill") as folder:
            teacher = export(self.teacher.folder, folder / "teacher", verify=False).folder
            student = export(best, folder / "student", verify=False).folder
            return speedup(teacher, student, corpus)

    def _model(self, weights: Weights) -> Any:
        """A student in PyTorch."""
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
        return NewCheckpoint(
            Arrays(config, {name: state[name] for name in tensor_shapes(config)}),
            self.teacher.dtype,
            self.student.config_json,
            self.teacher.generation_config,
            tokenizer_files(self.teacher.folder),
        )
