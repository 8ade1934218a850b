"""Runs a grid, one measurement after the other, each in a process of its own.

What can't be run becomes a row that says why. Knows jobs, grid and record; knows no file of the
user's, and nothing of how anything is measured or shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpt2onnx.compare.grid import Cell, Configuration, Grid
from gpt2onnx.compare.measure.job import Apart, apart
from gpt2onnx.compare.models import Models
from gpt2onnx.compare.record import Record
from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.runtime.ort.provider import require_provider
from gpt2onnx.staging import work_folder

# What of the answers each run repeats; texts and figures by position stand in `answers` alone.
SUMMARY = (
    *("positions", "max_logit_difference", "logit_difference_p999", "kl_mean", "kl_p99"),
    *("top1_agreement", "texts_parted", "near_ties", "first_parting", "verdict"),
)
# The same of where a decode step ran: its operators stand in `answers` alone.
PLACEMENT = ("provider", "share", "copies", "captured")


class Comparison:
    """Fills a record. `steps` are as many as `run` yields where nothing was done before."""

    def __init__(self, grid: Grid, models: Models, record: Record, do: Apart = apart) -> None:
        self._grid, self._models, self.record, self._do = grid, models, record, do
        self._prompts = record.head["prompts"]
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
                answers = self._answers(configuration)
                for cell in self._grid.cells(configuration):
                    yield str(cell)
                    run = self.record.take_run(cell) or self._run(cell, answers)
                    self.record.runs.append({**run, **_repeated(answers, run)})

    def _answers(self, configuration: Configuration) -> dict[str, Any]:
        entry = self.record.take_answers(configuration) or {
            **configuration._asdict(),
            **self._compared(configuration),
        }
        self.record.answers.append(entry)
        return entry

    def _compared(self, configuration: Configuration) -> dict[str, Any]:
        """Answers beside the reference's, and where they came from."""
        placed = self._job("placement", configuration)
        if "reason" in placed:
            return {"status": "unavailable", **placed, "placement": None, "agreement": None}
        placement = placed["result"]
        if reason := self._prepare_reference():
            found: Mapping[str, Any] = {"reason": f"no reference: {reason}"}
        else:
            found = self._job("answers", configuration)
        if "reason" in found:
            return {
                "status": "unavailable",
                "reason": found["reason"],
                "placement": placement,
                "agreement": None,
            }
        return {"status": "ok", "placement": placement, "agreement": summed(found["result"])}

    def _prepare_reference(self) -> str | None:
        """Have the reference's answers ready; why there are none, where there are none."""
        if self._reference_failed is None:
            done = self._job("reference", self._models.reference)
            self._reference_failed = done.get("reason", "")
        return self._reference_failed or None

    def _run(self, cell: Cell, answers: Mapping[str, Any]) -> dict[str, Any]:
        where = {**cell.configuration._asdict(), "batch": cell.batch, "context": cell.context}
        if answers["placement"] is None:  # it can't even be opened
            return {**where, "status": "unavailable", "reason": answers["reason"]}
        found = self._job("speed", cell.configuration, batch=cell.batch, context=cell.context)
        if "reason" in found:
            return {**where, "status": "unavailable", "reason": found["reason"]}
        return {**where, "status": "ok", **found["result"]}

    def _job(self, kind: str, configuration: Configuration, **more: Any) -> Mapping[str, Any]:
        """Do a job: {"result": …} or {"reason": …}."""
        try:
            require_provider(configuration.provider)  # before a model is made for it
            folder = self._models.folder(configuration)
        except Gpt2OnnxError as error:
            return {"reason": str(error)}
        return self._do(
            {
                "kind": kind,
                "folder": str(folder),
                "provider": configuration.provider,
                "threads": self._grid.threads,
                "tf32": self._grid.tf32,
                "cuda_graph": self._grid.cuda_graph,
                "new_tokens": self._grid.new_tokens,
                "prompts": self._prompts,
                "work": str(self._work),
                **more,
            }
        )


def _repeated(answers: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """What a run that went well has of its configuration's answers, which may be newer."""
    placement, agreement = answers["placement"], answers["agreement"]
    if run["status"] != "ok" or placement is None:
        return {}
    return {
        "placement": {name: placement[name] for name in PLACEMENT},
        "agreement": {name: agreement[name] for name in SUMMARY} if agreement else None,
    }


def summed(answers: Mapping[str, Any]) -> dict[str, Any]:
    """Answers with what follows from their texts.

    verdict: "same" where all texts are; "near-ties" where texts part at near-ties alone; else
    "differs".
    """
    parted = [text for text in answers["texts"] if text["parts_at"] is not None]
    near = sum(text["near_tie"] for text in parted)
    return {
        **answers,
        "texts_parted": len(parted),
        "near_ties": near,
        "first_parting": min((text["parts_at"] for text in parted), default=None),
        "verdict": "differs" if near < len(parted) else "near-ties" if parted else "same",
    }
