"""Where a model's time goes: by operator, beside the time without a profiler and the roofline.

The profiler's own cost is in the operators' times, so the same work is timed in a session without
it. The roofline is the least time that the machine allows: weights and cache, each byte read once,
or all multiply-adds, whichever takes longer.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gpt2onnx.runtime.chosen_graph import choose_graph
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.cache_size import cache_bytes_per_token
from gpt2onnx.runtime.decoder.protocol import Decoder
from gpt2onnx.runtime.folder.model_folder import ModelFolder
from gpt2onnx.runtime.machine.threads import default_threads
from gpt2onnx.runtime.open_model import open_decoder
from gpt2onnx.runtime.ort.kernels import most_operations
from gpt2onnx.runtime.ort.session import Session
from gpt2onnx.runtime.ort.session_options import Profiler
from gpt2onnx.runtime.profiling.ort_profile import (
    OperatorTime,
    Run,
    by_operator,
    read_runs,
    weight_bytes,
)
from gpt2onnx.runtime.profiling.roofline import bound, operations, read_bandwidth
from gpt2onnx.runtime.profiling.work import PROMPTS, Work, tokens
from gpt2onnx.staging import work_folder

# Precisions whose products are of whole numbers, where there are kernels for that.
ROUNDED = ("int8", "int8-dynamic", "int4")


@dataclass(frozen=True)
class Phase:
    """A prompt, or a step: the operators' times, all of it without a profiler, and the roofline."""

    tokens: int  # of the prompt, or that the cache holds before the step
    operators: list[OperatorTime]
    measured_ms: float
    bytes_read: int  # weights, and the cache at its end
    operations: int | None  # multiplications and additions of its products
    roofline_ms: float | None  # None where the host's memory isn't what is read
    bound: str | None  # what the roofline is of: "memory" or "arithmetic"

    @property
    def ratio(self) -> float | None:
        """The measured time as a multiple of the roofline."""
        return None if self.roofline_ms is None else self.measured_ms / self.roofline_ms

    @property
    def operators_ms(self) -> float:
        """All operators together."""
        return sum(operator.ms for operator in self.operators)


@dataclass(frozen=True)
class Profile:
    """A model's profile; `bandwidth`, bytes a second, is None on a device.

    `arithmetic`, operations a second, is None there as well, and where nothing measures it.

    `kernels` names gpt2onnx-kernels' where their graph ran, and is None where model.onnx did.
    `choice` is the session's: what was chosen, and why.
    """

    provider: str
    choice: str
    kernels: str | None
    threads: int
    weight_bytes: int
    cache_bytes_per_token: int
    bandwidth: float | None
    arithmetic: float | None
    prompt: Phase
    decode: Phase


def profile(
    folder: ModelFolder,
    work: Work,
    provider: str = "auto",
    provider_options: Mapping[str, object] | None = None,
    threads: int | None = None,
    graph: str = "auto",
) -> Profile:
    """Do the work with and without ONNX Runtime's profiler, whose files are gone at the end.

    Raises as `open_session` and `chosen_kernels` do; ParameterError for work that the model has no
    room for, or more operators than the profiler holds.
    """
    work.check(folder.n_positions)
    chosen = choose_graph(folder, graph, provider)
    open_ = partial(chosen.open, provider, provider_options, threads)
    session = open_()
    runs_on, choice, inputs = session.runs_on, session.choice, session.inputs
    decoder = open_decoder(folder, session)
    prompt_seconds, step_seconds = work.prompts(decoder), work.decode(decoder)
    del session, decoder  # one is open at a time

    recorded = partial(_recorded, folder, open_)
    weights = weight_bytes(recorded(_one_token, packed=False)[-1])
    threads = threads or default_threads()
    limits = _limits(folder, weights, threads) if runs_on.in_host_memory else _Limits()
    phase = partial(_phase, folder, (weights, cache_bytes_per_token(inputs)), limits)
    prompts = _split(recorded(work.prompts), 1 + PROMPTS)
    steps = [[run] for run in recorded(work.decode)]
    return Profile(
        provider=runs_on.short,
        choice=choice,
        kernels=chosen.kernels and chosen.kernels.name,
        threads=threads,
        weight_bytes=weights,
        cache_bytes_per_token=cache_bytes_per_token(inputs),
        bandwidth=limits.bandwidth,
        arithmetic=limits.arithmetic,
        prompt=phase(0, work.prompt_length, prompts, prompt_seconds),
        decode=phase(work.context, 1, steps, step_seconds),
    )


class _Limits(NamedTuple):
    """What the machine can do at most: bytes and operations a second; None where nobody knows."""

    bandwidth: float | None = None
    arithmetic: float | None = None


def _limits(folder: ModelFolder, weights: int, threads: int) -> _Limits:
    most = most_operations((folder.manifest or {}).get("precision") in ROUNDED)
    return _Limits(read_bandwidth(weights, threads), threads * most if most else None)


def _phase(
    folder: ModelFolder,
    sizes: tuple[int, int],
    limits: _Limits,
    before: int,
    new: int,
    passes: list[list[Run]],
    seconds: list[float],
) -> Phase:
    """`new` tokens behind `before` others: their passes as recorded, and the seconds without that.

    `sizes` are the bytes of the weights, and of a token in the cache.
    """
    weights, cache = sizes
    read, done = weights + cache * (before + new), operations(folder.config, new, before)
    least = bound(read, limits.bandwidth, done, limits.arithmetic) if limits.bandwidth else None
    return Phase(
        tokens=before or new,
        operators=by_operator(passes[-len(seconds) + 1 :]),
        measured_ms=1e3 * statistics.median(seconds[1:]),
        bytes_read=read,
        operations=done,
        roofline_ms=1e3 * least.seconds if least else None,
        bound=least.name if least else None,
    )


def _split(runs: list[Run], parts: int) -> list[list[Run]]:
    """Runs in equal parts: a prompt takes several, by its length."""
    each = len(runs) // parts
    return [runs[start : start + each] for start in range(0, len(runs), each)]


def _recorded(
    folder: ModelFolder,
    open_: Callable[..., Session],
    do: Callable[[Decoder[Any]], object],
    packed: bool = True,
) -> list[Run]:
    """The runs of some work in a session of its own, as ONNX Runtime's profiler has them."""
    with work_folder("profile") as records:
        session = open_(profiler=Profiler(records / "profile", packed))
        do(open_decoder(folder, session))
        return read_runs(Path(session.raw.end_profiling()))


def _one_token(decoder: Decoder[Any]) -> None:
    row = decoder.new_row()
    reads.prefill(decoder, row, tokens(decoder, 1))
    decoder.free(row)
