"""Runs a grid, one measurement after the other, each in a process of its own.

What can't be run becomes a row that says why. Knows jobs, grid and record; knows no file of the
user's, and nothing of how anything is measured or shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpt2onnx.compare.measure.job import Apart, Job, Kind, Reason, apart
from gpt2onnx.compare.models import Models
from gpt2onnx.compare.record.answers import Agreement, Answers, Placement
from gpt2onnx.compare.record.costs import Cost
from gpt2onnx.compare.record.grid import Cell, Configuration, Grid
from gpt2onnx.compare.record.record import Record
from gpt2onnx.compare.record.runs import Missing, Run, Speed
from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.runtime.ort.provider import require_provider
from gpt2onnx.staging import work_folder


class Comparison:
    """Fills a record. `steps` are as many as `run` yields where nothing was done before."""

    def __init__(self, grid: Grid, models: Models, record: Record, do: Apart = apart) -> None:
        self._grid, self._models, self.record, self._do = grid, models, record, do
        self._work = Path()
        self._reference_failed: str | None = None

    @property
    def steps(self) -> int:
        configurations = len(self._grid.configurations)
        return configurations * (1 + len(self._grid.batch) * len(self._grid.context))

    def run(self) -> Iterator[str]:
        """Do what is left; yields what comes next, and after each thing the record has it."""
        with work_folder("compare") as self._work:
            for configuration in self._grid.configurations:
                yield f"{configuration}: answers"
                answers = self.record.take_answers(configuration) or self._answers(configuration)
                self.record.answers.append(answers)
                for cell in self._grid.cells(configuration):
                    yield str(cell)
                    run = self.record.take_run(cell) or self._run(cell, answers)
                    self.record.runs.append(_repeating(answers, run))
        self.record.complete = True

    def _answers(self, configuration: Configuration) -> Answers:
        """Answers beside the reference's, and where they came from."""
        placement: Placement | Reason = self._job("placement", configuration)
        if isinstance(placement, Reason):
            return _unavailable(configuration, placement.reason)
        if reason := self._prepare_reference():
            return _unavailable(configuration, f"no reference: {reason}", placement)
        agreement: Agreement | Reason = self._job("answers", configuration)
        if isinstance(agreement, Reason):
            return _unavailable(configuration, agreement.reason, placement)
        return Answers(
            configuration=configuration, status="ok", placement=placement, agreement=agreement
        )

    def _prepare_reference(self) -> str:
        """Have the reference's answers ready; why there are none, where there are none."""
        if self._reference_failed is None:
            done: Reason | None = self._job("reference", self._models.reference)
            self._reference_failed = done.reason if done else ""
        return self._reference_failed

    def _run(self, cell: Cell, answers: Answers) -> Run | Missing:
        if answers.placement is None:  # it can't even be opened
            return Missing(cell, answers.reason or "")
        speed: Speed | Reason = self._job(
            "speed", cell.configuration, batch=cell.batch, context=cell.context
        )
        if isinstance(speed, Reason):
            return Missing(cell, speed.reason)
        return Run(cell, speed, answers.placement.ran, agreement=None, cost=Cost())

    def _job(self, kind: Kind, configuration: Configuration, **sizes: int) -> Any:
        """What a job of this kind gives, or a Reason."""
        try:
            require_provider(configuration.provider)  # before a model is made for it
            folder = self._models.folder(configuration)
            return self._do(
                Job(
                    kind=kind,
                    folder=str(folder),
                    provider=configuration.provider,
                    threads=self._grid.threads,
                    tf32=self._grid.tf32,
                    cuda_graph=self._grid.cuda_graph,
                    new_tokens=self._grid.new_tokens,
                    prompts=self.record.asked.prompts,
                    work=str(self._work),
                    **sizes,
                )
            )
        except Gpt2OnnxError as error:
            return Reason(str(error))


def _unavailable(
    configuration: Configuration, reason: str, placement: Placement | None = None
) -> Answers:
    return Answers(
        configuration=configuration,
        status="unavailable",
        reason=reason,
        placement=placement,
        agreement=None,
    )


def _repeating(answers: Answers, run: Run | Missing) -> Run | Missing:
    """The run, if it went well with its configuration's answers, which may be newer."""
    if isinstance(run, Missing) or answers.placement is None:
        return run
    agreement = answers.agreement.summary if answers.agreement else None
    return replace(run, placement=answers.placement.ran, agreement=agreement)
