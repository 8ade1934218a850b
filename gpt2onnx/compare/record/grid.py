"""The grid of a comparison: every provider and runtime with every precision, batch and context.

Knows names and numbers; knows no model and no machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from gpt2onnx.compare.record.schema import Absent, Flat
from gpt2onnx.errors import Given, ParameterError, Plain
from gpt2onnx.flags import refusal
from gpt2onnx.runtime.ort.provider import CUDA

Item = TypeVar("Item")
CPU = "cpu"
KERNELS = "kernels"  # a graph
# What no machine is asked for in earnest: larger numbers are mistakes, and would take its memory.
MOST_BATCH, MOST_THREADS = 10_000, 1024


@dataclass(frozen=True)
class Configuration:
    """A model's precision on a provider: what has answers of its own.

    `runtime` is somebody else's that runs it there, in place of this package. `graph` is "kernels"
    for the folder's graph of gpt2onnx-kernels' operators, and none for the one of ONNX Runtime's.
    """

    provider: str
    precision: str
    runtime: Absent[str] = None
    graph: Absent[str] = None

    def __str__(self) -> str:
        graph = f" {self.graph}" if self.graph else ""
        return f"{self.runtime or self.provider} {self.precision}{graph}"


# Every answer is compared with this one's.
REFERENCE = Configuration(CPU, "fp32")


@dataclass(frozen=True)
class Cell:
    """A configuration, the sequences that share a step, and the tokens of each one's prompt.

    Raises ValueError for a size below 1.
    """

    configuration: Flat[Configuration]
    batch: int
    context: int

    def __post_init__(self) -> None:
        if min(self.batch, self.context) < 1:
            raise ValueError(
                f"batch {self.batch} and context {self.context}: expected at least 1 of each"
            )

    def __str__(self) -> str:
        return f"{self.configuration}, batch {self.batch}, context {self.context}"


@dataclass(frozen=True)
class Grid:
    """All of it. `new_tokens` are written by each run, by each sequence; `threads` are the CPU's.

    `tf32` and `cuda_graph` are CUDA's: fp32 products of 10 bits, and decode steps that are captured
    as CUDA graphs. `runtimes` are other ones, by name, with the provider that each computes on.
    `kernels` are the precisions that the CPU runs on the kernels' graph, too; with `graph`
    "kernels" it runs them all on that, and on no other.
    Raises ParameterError for what can't be run, or would have no effect.
    """

    providers: tuple[str, ...]
    precisions: tuple[str, ...]
    batch: tuple[int, ...] = (1, 8)
    context: tuple[int, ...] = (32, 512)
    new_tokens: int = 64
    threads: int | None = None
    tf32: bool = False
    cuda_graph: bool = False
    runtimes: Absent[dict[str, str]] = None
    kernels: Absent[tuple[str, ...]] = None
    graph: Absent[str] = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                _check_list(field.name, value)
        if self.new_tokens < 2:
            raise ParameterError(
                Given("new_tokens", self.new_tokens),
                ": expected at least 2, a first token and a step",
            )
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise ParameterError(
                Given("threads", self.threads),
                f": expected 1 to {MOST_THREADS:,}, and no more than the machine has processors",
            )
        if max(self.batch) > MOST_BATCH:
            raise refusal("batch", max(self.batch), f"at most {MOST_BATCH:,}")
        if self.graph == KERNELS and CPU not in self.providers:
            raise ParameterError(
                Given("graph", KERNELS),
                f" has no effect on {', '.join(self.providers)}: it runs on the CPU; leave it out, "
                "or add cpu",
            )
        for asked, name in ((self.tf32, "tf32"), (self.cuda_graph, "cuda_graph")):
            if asked and CUDA.short not in self.providers:
                raise ParameterError(
                    Given(name, True),
                    f" has no effect on {', '.join(self.providers)}: it is CUDA's; leave it out, "
                    "or add cuda",
                )

    @property
    def configurations(self) -> list[Configuration]:
        places: list[tuple[str, str | None]] = [(provider, None) for provider in self.providers]
        places += [(provider, runtime) for runtime, provider in (self.runtimes or {}).items()]
        return [
            Configuration(provider, precision, runtime, graph)
            for provider, runtime in places
            for precision in self.precisions
            for graph in self._graphs(provider, precision, runtime)
        ]

    def _graphs(self, provider: str, precision: str, runtime: str | None) -> tuple[str | None, ...]:
        if (provider, runtime) != (CPU, None):
            return (None,)
        if self.graph == KERNELS:
            return (KERNELS,)
        return (None, KERNELS) if precision in (self.kernels or ()) else (None,)

    def cells(self, configuration: Configuration) -> Iterator[Cell]:
        for batch in self.batch:
            for context in self.context:
                yield Cell(configuration, batch, context)

    def check_positions(self, n_positions: int) -> None:
        """Raise ParameterError where a run wouldn't fit into the model."""
        if max(self.context) + self.new_tokens > n_positions:
            raise ParameterError(
                *(Given("context", max(self.context)), " and "),
                Given("new_tokens", self.new_tokens),
                f" are more than the model's {n_positions} positions: lower one of them",
            )


def _check_list(name: str, values: Sequence[Item]) -> None:
    if not values:
        raise ParameterError(Given(name), ": expected at least one")
    if len(set(values)) < len(values):
        raise refusal(name, Plain(",".join(map(str, values))), "each of them once")
    for value in values:
        if isinstance(value, int) and value < 1:
            raise refusal(name, value, "at least 1")
