"""Measures configurations of other runtimes: candidates, each in its runtime's own process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import tokenizers

from gpt2onnx.compare.measure.answers import Expected, expectations
from gpt2onnx.compare.measure.speed import prompts_of
from gpt2onnx.compare.models import Models
from gpt2onnx.compare.ours import Ours
from gpt2onnx.compare.record.answers import Answers, unavailable
from gpt2onnx.compare.record.costs import Cost
from gpt2onnx.compare.record.grid import Cell, Configuration, Grid
from gpt2onnx.compare.record.runs import Missing, Run
from gpt2onnx.compare.runtimes.candidate import Candidate
from gpt2onnx.compare.runtimes.job import Job, Written
from gpt2onnx.compare.runtimes.table import RUNTIMES, Runtime
from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.machine.threads import default_threads
from gpt2onnx.runtime.open_model import open_tokenizer


class Runtimes(Protocol):
    """Other runtimes, as they are installed. Each method raises UnavailableError."""

    def require(self, runtime: Runtime) -> None:
        """Nothing, where it can be started."""

    def write(self, job: Job) -> Written:
        """Do a job in its runtime's own process."""


class Theirs:
    """What goes wrong is a reason. `ours` has the reference, in the folder `work`."""

    def __init__(
        self,
        grid: Grid,
        models: Models,
        prompts: Sequence[str],
        work: Path,
        runtimes: Runtimes,
        ours: Ours,
    ) -> None:
        self._grid, self._models, self._prompts = grid, models, list(prompts)
        self._work, self._runtimes, self._ours = work, runtimes, ours

    def answers(self, configuration: Configuration) -> Answers:
        """Answers beside the reference's, and what gave them."""
        try:
            candidate = self._candidate(configuration)
            if self._ours.no_reference:
                return unavailable(configuration, self._ours.no_reference)
            told = candidate.answers(self._expected, self._tokenizer, self._work)
        except Gpt2OnnxError as error:
            return unavailable(configuration, str(error))
        return Answers(
            configuration=configuration,
            status="ok",
            placement=None,
            program=told.program,
            agreement=told.agreement,
        )

    def run(self, cell: Cell, answers: Answers) -> Run | Missing:
        if answers.reason is not None:
            return Missing(cell, answers.reason)
        try:
            ids = prompts_of(self._tokenizer, self._prompts, cell.batch, cell.context)
            candidate = self._candidate(cell.configuration)
            program, speed = candidate.speed(ids, self._grid.new_tokens, self._work)
        except Gpt2OnnxError as error:
            return Missing(cell, str(error))
        return Run(cell, speed, placement=None, program=program, agreement=None, cost=Cost())

    def _candidate(self, configuration: Configuration) -> Candidate:
        """Raises as the export does; UnavailableError."""
        runtime = RUNTIMES[configuration.runtime or ""]
        self._runtimes.require(runtime)  # before a model is made for it
        folder = open_folder(self._models.folder(configuration))
        threads = self._grid.threads or default_threads()
        return Candidate(runtime, folder, threads, self._runtimes.write)

    @cached_property
    def _expected(self) -> list[Expected]:
        return expectations(self._work, len(self._prompts), self._grid.new_tokens)

    @cached_property
    def _tokenizer(self) -> tokenizers.Tokenizer:
        return open_tokenizer(open_folder(self._models.folder(self._models.reference)))
