"""Measures configurations of this package: jobs, each in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from gpt2onnx.compare.measure.job import Apart, Job, Kind, Reason
from gpt2onnx.compare.models import Models
from gpt2onnx.compare.record.answers import Agreement, Answers, Placement, unavailable
from gpt2onnx.compare.record.costs import Cost
from gpt2onnx.compare.record.grid import Cell, Configuration, Grid
from gpt2onnx.compare.record.runs import Missing, Run, Speed
from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.runtime.ort.provider import require_provider


class Ours:
    """What goes wrong is a reason. The reference's answers go into the folder `work`."""

    def __init__(
        self, grid: Grid, models: Models, prompts: Sequence[str], work: Path, do: Apart
    ) -> None:
        self._grid, self._models, self._prompts = grid, models, list(prompts)
        self._work, self._do = work, do

    @cached_property
    def no_reference(self) -> str:
        """Empty once the reference's answers are there; why they are not, where they can't be."""
        done: Reason | None = self._job("reference", self._models.reference)
        return f"no reference: {done.reason}" if done else ""

    def answers(self, configuration: Configuration) -> Answers:
        """Answers beside the reference's, and where they came from."""
        placement: Placement | Reason = self._job("placement", configuration)
        if isinstance(placement, Reason):
            return unavailable(configuration, placement.reason)
        if self.no_reference:
            return unavailable(configuration, self.no_reference, placement)
        agreement: Agreement | Reason = self._job("answers", configuration)
        if isinstance(agreement, Reason):
            return unavailable(configuration, agreement.reason, placement)
        return Answers(
            configuration=configuration, status="ok", placement=placement, agreement=agreement
        )

    def run(self, cell: Cell, answers: Answers) -> Run | Missing:
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
                    graph=configuration.graph or "onnx",
                    threads=self._grid.threads,
                    tf32=self._grid.tf32,
                    cuda_graph=self._grid.cuda_graph,
                    new_tokens=self._grid.new_tokens,
                    prompts=self._prompts,
                    work=str(self._work),
                    **sizes,
                )
            )
        except Gpt2OnnxError as error:
            return Reason(str(error))
