"""A cell of the table: a folder is exported, the runtime writes, and its tokens are judged.

Knows how a runtime is started as gpt2onnx.compare does it; knows no page.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from math import log
from pathlib import Path

import numpy as np

import gpt2onnx
from benchmarks.environments import Environment, InstallError
from benchmarks.runtimes.rows import NODE, WEB, Row
from gpt2onnx.compare.runtimes.job import Job, Text, UnavailableError, Written, graph_of
from gpt2onnx.compare.runtimes.places import Installed
from gpt2onnx.compare.runtimes.start import start
from gpt2onnx.compare.runtimes.table import RUNTIMES, Runtime
from gpt2onnx.errors import Gpt2OnnxError, ParameterError
from gpt2onnx.runtime.folder.model_folder import open_folder

PROMPTS = (
    "def read(path):\n    ",
    'class Stack:\n    """',
    "import os\nimport sys\n\n\n",
    "Once upon a time",
)
COUNT, FEW = 32, 6  # tokens a prompt
CONTEXT, STEPS = 128, 33  # of what is timed
NEAR_TIE = log(2)  # as in compare: the other token has half of the reference's probability


@dataclass(frozen=True)
class Figures:
    """What a cell shows. equal: tokens of `written` up to where each text first differs."""

    version: str
    equal: int
    written: int
    near_ties: int
    parted: int
    top1: float | None  # the fp32 model's tokens, along its texts
    prompt_ms: float
    step_ms: float
    memory_mb: float | None


@dataclass(frozen=True)
class Chosen:
    """An environment made for the table, or what Installed finds."""

    folder: Path
    environment: Environment | None

    def python(self, runtime: Runtime) -> Path:
        if self.environment is None:
            return Installed().python(runtime)
        try:
            self.environment.make(self.folder)
        except InstallError as error:
            raise UnavailableError(f"can't be installed: {error}") from error
        return self.environment.python(self.folder)

    def modules(self, runtime: Runtime) -> Path:
        place = self.folder / "node"
        if not (place / "made").is_file():
            place.mkdir(parents=True, exist_ok=True)
            # The installed scripts would fetch CUDA's libraries.
            npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *NODE, WEB]
            done = subprocess.run(npm, cwd=place, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UnavailableError(f"can't be installed: {done.stderr.strip()}")
            (place / "made").touch()
        return Installed(self.folder).modules(runtime)


class Bench:
    """Cells of one checkpoint; `models` gets the exported folders."""

    def __init__(self, checkpoint: Path, models: Path, environments: Path, threads: int) -> None:
        self.checkpoint, self.models = checkpoint, models
        self.environments, self.threads = environments, threads
        self._texts: dict[str, list[list[int]]] = {}

    @cached_property
    def ids(self) -> list[list[int]]:
        """The prompts' tokens, and last those of what is timed."""
        tokenizer = gpt2onnx.load(self.folder("onnxruntime", "fused", "fp32")).tokenizer
        prompts = [tokenizer.encode(text).ids for text in PROMPTS]
        joined = [token for prompt in prompts for token in prompt]
        return [*prompts, (joined * CONTEXT)[:CONTEXT]]

    def figures(self, row: Row, graph: str, precision: str) -> Figures:
        """Raises UnavailableError, with the reason, where there are none."""
        runtime = RUNTIMES[row.runtime]
        count, prompts = (FEW, 2) if row.few else (COUNT, len(PROMPTS))
        expected = self.texts(precision)[:prompts]
        texts = [Text(ids, count) for ids in self.ids[:prompts]]
        gives = runtime.gives_logits and not row.few
        if gives:
            pairs = zip(self.ids, self.texts("fp32")[:prompts], strict=False)
            texts += [Text(ids, count, given=text) for ids, text in pairs]
        timed = Text(self.ids[-1][: CONTEXT // 8], FEW) if row.few else Text(self.ids[-1], STEPS)
        made = self.write(row, graph, precision, [*texts, *([timed] * (1 if row.few else 2))])
        own = [each.tokens for each in made.texts[:prompts]]
        forced = [each.tokens for each in made.texts[prompts : 2 * prompts]]
        first, *steps = made.texts[-1].times
        near, parted, equal = self._judge(expected, own)
        return Figures(
            made.version,
            *(equal, sum(map(len, own)), near, parted),
            _share(self.texts("fp32"), forced) if gives else None,
            *(1e3 * first, 1e3 * statistics.median(steps)),
            made.resident_bytes / 1e6 if made.resident_bytes else None,
        )

    def write(self, row: Row, graph: str, precision: str, texts: list[Text]) -> Written:
        runtime = RUNTIMES[row.runtime]
        folder = open_folder(self.folder(runtime.target, graph, precision))
        name, data = graph_of(folder)
        options = dict(row.options)
        if not runtime.gives_logits:
            options |= {"dtype": folder.config["transformers.js_config"]["dtype"]}
            options |= {"device": "cpu"} if runtime.starter == "node" else {}
        job = Job(
            runtime=row.runtime,
            folder=str(folder.path.resolve()),
            graph=name,
            data=data,
            threads=self.threads,
            texts=texts,
            options=options,
        )
        return start(job, Chosen(self.environments, row.environment))

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

    def texts(self, precision: str) -> list[list[int]]:
        """What gpt2onnx writes in a precision, COUNT tokens behind each prompt."""
        if precision not in self._texts:
            self._texts[precision] = self._written(precision)
        return self._texts[precision]

    def _written(self, precision: str) -> list[list[int]]:
        folder = self.folder("onnxruntime", "fused", precision)
        model = gpt2onnx.load(folder, provider="cpu", threads=self.threads, graph="onnx")
        options = {"max_new_tokens": COUNT, "min_new_tokens": COUNT, "do_sample": False}
        return [list(model.generate(ids, **options).token_ids) for ids in self.ids[:-1]]

    def _judge(self, expected: list[list[int]], found: list[list[int]]) -> tuple[int, int, int]:
        """Near-ties, texts that part, and tokens up to there."""
        near = parted = equal = 0
        for ids, ours, theirs in zip(self.ids, expected, found, strict=False):
            pairs = zip(ours, theirs, strict=False)
            at = next((at for at, (a, b) in enumerate(pairs) if a != b), None)
            equal += len(theirs) if at is None else at
            if at is not None:
                parted += 1
                after = self._logits([*ids, *ours[:at]])
                near += abs(float(after[ours[at]] - after[theirs[at]])) <= NEAR_TIE
        return near, parted, equal

    def _logits(self, ids: list[int]) -> np.ndarray:
        """The fp32 model's, [vocab], after ids."""
        kept = self.models / "logits.f4"
        row = Row("", "onnxruntime")
        self.write(row, "fused", "fp32", [Text(ids, 1, logits=str(kept))])
        return np.fromfile(kept, np.float32)


def _share(expected: list[list[int]], found: list[list[int]]) -> float:
    rows = zip(expected, found, strict=False)
    pairs = [pair for row in rows for pair in zip(*row, strict=False)]
    return sum(a == b for a, b in pairs) / len(pairs)


def attempt(bench: Bench, row: Row, graph: str, precision: str) -> Figures | str:
    """A cell's figures, or the reason why there are none."""
    print(f"runtimes: {row.title}, {graph} {precision}", file=sys.stderr, flush=True)
    try:
        return bench.figures(row, graph, precision)
    except Gpt2OnnxError as error:
        return str(error).replace(f"{bench.models}/", "")
