"""A cell of the table: a folder is exported, and measured as `gpt2onnx compare` does it.

The reference is gpt2onnx itself in the cell's precision. Knows no page.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import tokenizers

import gpt2onnx
from benchmarks.runtimes.environments import Chosen
from benchmarks.runtimes.rows import Row
from gpt2onnx.compare.measure.answers import Expected, expectations
from gpt2onnx.compare.measure.job import Job, Reason, apart
from gpt2onnx.compare.measure.speed import prompts_of
from gpt2onnx.compare.record.answers import Parting, partings
from gpt2onnx.compare.record.runs import Speed
from gpt2onnx.compare.runtimes.candidate import Candidate, Told
from gpt2onnx.compare.runtimes.job import UnavailableError
from gpt2onnx.compare.runtimes.start import start
from gpt2onnx.compare.runtimes.table import RUNTIMES
from gpt2onnx.errors import Gpt2OnnxError, ParameterError
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.open_model import open_tokenizer

PROMPTS = (
    "def read(path):\n    ",
    'class Stack:\n    """',
    "import os\nimport sys\n\n\n",
    "Once upon a time",
)


@dataclass(frozen=True)
class Size:
    """Prompts and tokens behind each; and of what is timed, its prompt's tokens and its steps.

    batch: rows that share a step, timed as well; None where that would take too long.
    """

    prompts: int
    tokens: int
    context: int
    steps: int
    batch: int | None


USUAL, FEW = Size(len(PROMPTS), 32, 128, 32, batch=8), Size(2, 6, 16, 5, batch=None)


@dataclass(frozen=True)
class Figures:
    """What a cell shows. equal: tokens of `written` up to where each text first differs.

    batch_tokens_s: of all rows together, or the reason why there are none; None is not measured.
    """

    version: str
    equal: int
    written: int
    near_ties: int
    parted: int
    top1: float | None
    prompt_ms: float
    step_ms: float
    memory_mb: float | None
    batch_tokens_s: float | str | None


class Bench:
    """Cells of one checkpoint; `models` gets the exported folders and the reference's answers."""

    def __init__(self, checkpoint: Path, models: Path, environments: Path, threads: int) -> None:
        self.checkpoint, self.models = checkpoint, models
        self.environments, self.threads = environments, threads
        self.expected = cache(self._expected)

    def figures(self, row: Row, graph: str, precision: str) -> Figures:
        """Raises UnavailableError, with the reason, where there are none."""
        size, runtime = FEW if row.few else USUAL, RUNTIMES[row.runtime]
        folder = open_folder(self.folder(runtime.target, graph, precision))
        write = partial(start, places=Chosen(self.environments, row.environment))
        candidate = Candidate(runtime, folder, self.threads, write, row.options)
        told = candidate.answers(self.expected(precision, size), self.tokenizer, self.models)
        _, speed = candidate.speed(self._prompts(1, size), 1 + size.steps, self.models)
        return figures(told, speed, size, self._batch_speed(candidate, size))

    def _batch_speed(self, candidate: Candidate, size: Size) -> float | str | None:
        """Tokens a second, or why it can't write several rows together."""
        if size.batch is None:
            return None
        ids = self._prompts(size.batch, size)
        try:
            _, speed = candidate.speed(ids, 1 + size.steps, self.models)
        except UnavailableError as error:
            return str(error)
        return speed.tokens_per_s

    def _prompts(self, batch: int, size: Size) -> list[list[int]]:
        return prompts_of(self.tokenizer, PROMPTS, batch, size.context)

    def folder(self, target: str, graph: str, precision: str) -> Path:
        """Exported for a runtime, or where that doesn't take the graph, for ONNX Runtime."""
        for each in (target, "onnxruntime"):
            out = self.models / f"{each}-{graph}-{precision}"
            if out.exists():
                return out
            options = {"runtime": each, "graph": graph, "precision": precision, "verify": False}
            try:
                return gpt2onnx.export(self.checkpoint, out, **options).folder
            except ParameterError as error:
                refusal = error
        raise UnavailableError(str(refusal))

    @cached_property
    def tokenizer(self) -> tokenizers.Tokenizer:
        return open_tokenizer(open_folder(self.folder("onnxruntime", "fused", "fp32")))

    def _expected(self, precision: str, size: Size) -> list[Expected]:
        """What gpt2onnx writes in a precision, and its logits."""
        work = self.models / f"expected-{precision}-{size.tokens}"
        work.mkdir()
        asked = Job(
            kind="reference",
            folder=str(self.folder("onnxruntime", "fused", precision)),
            provider="cpu",
            threads=self.threads,
            tf32=False,
            cuda_graph=False,
            new_tokens=size.tokens,
            prompts=list(PROMPTS[: size.prompts]),
            work=str(work),
        )
        done: Reason | None = apart(asked)
        if done:
            raise UnavailableError(f"no reference: {done.reason}")
        return expectations(work, size.prompts, size.tokens)


def figures(told: Told, speed: Speed, size: Size, batch: float | str | None) -> Figures:
    came = partings(told.texts)
    held = speed.memory.resident_bytes
    return Figures(
        told.program.version,
        sum(each.parts_at if isinstance(each, Parting) else size.tokens for each in told.texts),
        size.tokens * len(told.texts),
        *(came.near_ties, came.texts_parted),
        told.agreement.figures.top1_agreement if told.agreement else None,
        *(1e3 * speed.first_token_s, speed.step_ms.median),
        held / 1e6 if held else None,
        batch,
    )


def attempt(bench: Bench, row: Row, graph: str, precision: str) -> Figures | str:
    """A cell's figures, or the reason why there are none."""
    print(f"runtimes: {row.title}, {graph} {precision}", file=sys.stderr, flush=True)
    try:
        return bench.figures(row, graph, precision)
    except Gpt2OnnxError as error:
        return str(error).replace(f"{bench.models}/", "")
