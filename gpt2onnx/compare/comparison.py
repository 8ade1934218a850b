"""Runs a grid, one measurement after the other, each in a process of its own.

What can't be run becomes a row that says why. Knows grid and record, and who measures; knows no
file of the user's, and nothing of how anything is measured or shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gpt2onnx.compare.measure.job import Apart, apart
from gpt2onnx.compare.models import Models
from gpt2onnx.compare.ours import Ours
from gpt2onnx.compare.record.answers import Answers
from gpt2onnx.compare.record.grid import Grid
from gpt2onnx.compare.record.record import Record
from gpt2onnx.compare.record.runs import Missing, Run
from gpt2onnx.compare.runtimes.start import Starter
from gpt2onnx.compare.theirs import Runtimes, Theirs
from gpt2onnx.staging import work_folder

HERE = Starter()


class Comparison:
    """Fills a record. `steps` are as many as `run` yields where nothing was done before.

    `do` does this package's jobs, `runtimes` those of others.
    """

    def __init__(
        self,
        grid: Grid,
        models: Models,
        record: Record,
        do: Apart = apart,
        runtimes: Runtimes = HERE,
    ) -> None:
        self._grid, self._models, self.record = grid, models, record
        self._do, self._runtimes = do, runtimes

    @property
    def steps(self) -> int:
        grid = self._grid
        return sum(1 + len(list(grid.cells(each))) for each in grid.configurations)

    def run(self) -> Iterator[str]:
        """Do what is left; yields what comes next, and after each thing the record has it."""
        with work_folder("compare") as work:
            shared = self._grid, self._models, self.record.asked.prompts, work
            ours = Ours(*shared, self._do)
            theirs = Theirs(*shared, self._runtimes, ours)
            for configuration in self._grid.configurations:
                measure = theirs if configuration.runtime else ours
                yield f"{configuration}: answers"
                answers = self.record.take_answers(configuration)
                answers = answers or measure.answers(configuration)
                self.record.answers.append(answers)
                for cell in self._grid.cells(configuration):
                    yield str(cell)
                    run = self.record.take_run(cell) or measure.run(cell, answers)
                    self.record.runs.append(_repeating(answers, run))
        self.record.complete = True


def _repeating(answers: Answers, run: Run | Missing) -> Run | Missing:
    """The run, if it went well with its configuration's answers, which may be newer."""
    if isinstance(run, Missing) or not (answers.placement or answers.program):
        return run
    placement = answers.placement.ran if answers.placement else None
    agreement = answers.agreement.summary if answers.agreement else None
    return replace(run, placement=placement, agreement=agreement)
