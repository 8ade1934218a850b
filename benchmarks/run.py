"""A run of the benchmark: prepare, then visit every engine in turn, round by round.

Knows workers and tasks. What an engine is, peers/ knows; what becomes of the figures, report.py.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.agreement import Steps, agree, equal_tokens
from benchmarks.environments import InstallError, folder_size
from benchmarks.models import Models
from benchmarks.process import Worker, WorkerError, first_output, worker_command
from benchmarks.results import Result
from benchmarks.tasks import Task, interleaved, tasks
from benchmarks.variants import Variant

Workers: TypeAlias = dict[str, Worker]

# The prompt of what isn't timed.
CONTEXT = 32
LOGITS = "reference.npy"
TEXT = "The first thing that a language model says"


@dataclass
class Benchmark:
    """One run over some variants. `folder` gets logs and converted models."""

    variants: Sequence[Variant]
    checkpoint: Path
    environments: Path
    folder: Path
    threads: int
    rounds: int
    quick: bool = False
    # Beyond that many seconds a round that isn't the first counted one is left out.
    budget: float = float("inf")
    results: dict[str, Result] = field(default_factory=dict)
    reference: str | None = None

    def __post_init__(self) -> None:
        config = json.loads((self.checkpoint / "config.json").read_text())
        self.config: dict[str, Any] = config
        self.started = time.monotonic()
        self.models = Models(self.checkpoint, self.environments, self.folder / "models")
        left = self.config["n_positions"] - CONTEXT
        self.greedy = Task(1, CONTEXT, min(64, left))
        self.forced = Task(1, min(4 * CONTEXT, self.config["n_positions"]), 1)
        self.results = {variant.name: Result(variant) for variant in self.variants}

    def run(self) -> None:
        """Measure everything; results are in `results`."""
        for variant in self.variants:
            with self._leaving_out(variant):
                self._prepare(variant)
        self._measure_first_tokens()
        self._measure_fresh()
        with ExitStack() as stack:
            workers = self._open_all(stack)
            self._measure_agreement(workers)
            self._measure_tasks(workers)

    @property
    def running(self) -> list[Variant]:
        return [each for each in self.variants if self.results[each.name].left_out is None]

    def _prepare(self, variant: Variant) -> None:
        """Make the environments, and convert the checkpoint unless that was done before."""
        variant.converter.make(self.environments)
        variant.environment.make(self.environments)
        self.models.convert(variant, self._variables())
        self.results[variant.name].add(
            {
                "installed_mb": variant.environment.installed_mb(self.environments),
                "model_mb": folder_size(self.models.place(variant)) / 1e6,
            }
        )

    def _measure_first_tokens(self) -> None:
        """Whole processes, from their start to their first output, of files that are in memory."""
        for number, variant in self._visits(self.running, "first_token_s"):
            with self._missing(variant, "first_token_s"):
                seconds = first_output(self._first_token_command(variant), self._variables())
                self._count(number, variant, {"first_token_s": seconds})

    def _measure_fresh(self) -> None:
        """Load time and memory, each of a fresh process that writes 64 tokens."""
        for number, variant in self._visits(self.running, "load_s"):
            with self._missing(variant, "load_s", "resident_mb"), self._worker(variant) as worker:
                opened = worker.ask("open")
                worker.ask("greedy", prompts=self._prompts(self.greedy), count=self.greedy.count)
                self._count(number, variant, opened | worker.ask("memory"))

    def _measure_agreement(self, workers: Workers) -> None:
        """Greedy tokens and logits against the reference's: transformers in fp32, or ours."""
        fp32 = [each for each in self.running if each.bits == 32 and each.name in workers]
        fp32.sort(key=lambda each: (each.peer != "transformers", not each.ours))
        if not fp32:
            return
        (self.folder / LOGITS).unlink(missing_ok=True)
        first = fp32[0]
        self.reference = first.name
        expected: list[int] = []
        for variant in [first, *(each for each in self.running if each is not first)]:
            say(f"agreement: {variant.name}")
            with self._missing(variant, "agreement"):
                tokens, logits = self._say(workers[variant.name])
                expected = expected or tokens
                equal = {"greedy_equal": equal_tokens(expected, tokens)}
                self.results[variant.name].add(equal | logits)
            if not expected:
                return

    def _say(self, worker: Worker) -> tuple[list[int], dict[str, float]]:
        """A greedy run's tokens, and how far the logits on a given text are from the first's."""
        answer = worker.ask("greedy", prompts=self._prompts(self.greedy), count=self.greedy.count)
        (ids,) = self._prompts(self.forced)
        to = str((self.folder / LOGITS).resolve())
        logits = worker.ask("logits", ids=ids, start=CONTEXT, reference=to)
        return [token for (token,) in answer["tokens"]], logits

    def _measure_tasks(self, workers: Workers) -> None:
        """Each engine is given the reference's tokens, so that all of them do the same work."""
        running = [each for each in self.running if each.name in workers]
        running.sort(key=lambda each: each.name != self.reference)
        for task in tasks(self.config["n_positions"], self.quick):
            expected: Steps | None = None
            for number, variant in self._visits(running, *task.figures):
                with self._missing(variant, *task.figures):
                    answer = workers[variant.name].ask(
                        "greedy", prompts=self._prompts(task), count=task.count, forced=expected
                    )
                    if variant.name == self.reference:
                        expected = answer["tokens"]
                    self._count(number, variant, task.read(answer["times"]))
                    if expected:
                        agreement = agree(expected, answer["tokens"], answer["was_forced"])
                        told = dict.fromkeys(task.figures, agreement)
                        self.results[variant.name].agreements |= told

    def _open_all(self, stack: ExitStack) -> Workers:
        workers: Workers = {}
        for variant in self.running:
            say(f"opening {variant.name}")
            with self._leaving_out(variant):
                worker = self._start(variant)
                stack.callback(worker.close)
                worker.ask("open")
                workers[variant.name] = worker
                self.results[variant.name].settings = worker.ask("settings")
        return workers

    def _visits(self, variants: Sequence[Variant], *figures: str) -> Iterator[tuple[int, Variant]]:
        """Each round's turns, without those that have failed at these figures."""
        for number, variant in interleaved(variants, self.rounds):
            late = time.monotonic() > self.started + self.budget
            if number > 1 and late and variant is variants[0]:
                return
            if figures[0] not in self.results[variant.name].missing:
                say(f"{figures[0]}, round {number} of {self.rounds}: {variant.name}")
                yield number, variant

    def _count(self, number: int, variant: Variant, figures: dict[str, float]) -> None:
        if number:
            self.results[variant.name].add(figures)

    @contextmanager
    def _missing(self, variant: Variant, *figures: str) -> Iterator[None]:
        """What fails inside is named in the figures' place."""
        try:
            yield
        except WorkerError as failed:
            self.results[variant.name].missing |= dict.fromkeys(figures, str(failed))
            say(f"{variant.name}: {figures[0]} is missing: {failed}")

    @contextmanager
    def _leaving_out(self, variant: Variant) -> Iterator[None]:
        """What fails inside is why the variant isn't run."""
        try:
            yield
        except (WorkerError, InstallError) as failed:
            self.results[variant.name].left_out = str(failed)
            say(f"{variant.name} is left out: {failed}")

    @contextmanager
    def _worker(self, variant: Variant) -> Iterator[Worker]:
        worker = self._start(variant)
        try:
            yield worker
        finally:
            worker.close()

    def _start(self, variant: Variant) -> Worker:
        python = variant.environment.python(self.environments)
        log = self.folder / f"{variant.slug}.log"
        return Worker(python, self._spec(variant), self._variables(), log)

    def _first_token_command(self, variant: Variant) -> list[str]:
        python = variant.environment.python(self.environments)
        if not variant.first_token:
            return worker_command(python, "first-token", self._spec(variant) | {"text": TEXT})
        places = {"text": TEXT, "folder": self.models.place(variant), "threads": self.threads}
        return [str(python), *(part.format(**places) for part in variant.first_token)]

    def _spec(self, variant: Variant) -> dict[str, Any]:
        return {
            "module": variant.module,
            "folder": str(self.models.place(variant)),
            "threads": self.threads,
            "options": dict(variant.options),
        }

    def _prompts(self, task: Task) -> list[list[int]]:
        return task.prompts(self.config["vocab_size"])

    def _variables(self) -> dict[str, str]:
        """Threads for those that ask OpenMP, and caches apart from the user's."""
        return {
            "OMP_NUM_THREADS": str(self.threads),
            "GPT2ONNX_CACHE": str((self.folder / "start-up").resolve()),
            "HF_HUB_OFFLINE": "1",
            "TORCHINDUCTOR_CACHE_DIR": str((self.folder / "inductor").resolve()),
        }


def say(line: str) -> None:
    """Progress."""
    print(f"bench: {line}", file=sys.stderr, flush=True)
