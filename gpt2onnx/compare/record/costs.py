"""Prices, the costs of a run, and the batch from which a GPU pays."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2onnx.compare.record.grid import CPU, Configuration
from gpt2onnx.compare.record.schema import Flat
from gpt2onnx.errors import Given, ParameterError

# Dollars an hour; what is outside is a mistake, and costs that are made of it no numbers.
LOWEST, HIGHEST = 1e-6, 1e6


@dataclass(frozen=True)
class Prices:
    """Dollars an hour; None where none was given. Raises ParameterError."""

    cpu: float | None = None
    gpu: float | None = None

    def __post_init__(self) -> None:
        for name, price in (("cpu_price", self.cpu), ("gpu_price", self.gpu)):
            if price is not None and not LOWEST <= price <= HIGHEST:
                raise ParameterError(
                    *(Given(name, price), ": expected dollars an hour, 0.000001 to 1,000,000"),
                )

    def of(self, provider: str) -> float | None:
        return self.cpu if provider == CPU else self.gpu


@dataclass(frozen=True)
class Cost:
    """A run's tokens a second beside the CPU's, and dollars. None is what isn't known."""

    speedup_over_best_cpu: float | None = None
    speedup_over_cpu_fp32: float | None = None
    dollars_per_million_tokens: float | None = None
    break_even_price: float | None = None


@dataclass(frozen=True)
class Crossover:
    """From which batch on a GPU configuration pays, at a context; None where there is none."""

    configuration: Flat[Configuration]
    context: int
    by_speed: int | None
    by_price: int | None
