"""Opens a worker's engine: its share of the machine's memory is its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gpt2onnx.batch.answering import DEPTH, Answerer, Terms
from gpt2onnx.batch.spec import WorkerSpec
from gpt2onnx.models import load
from gpt2onnx.runtime.decoder.cache_size import cache_bytes_per_token
from gpt2onnx.runtime.machine.memory import available_memory
from gpt2onnx.runtime.model import Model
from gpt2onnx.serving.capacity import MAX_ROWS
from gpt2onnx.serving.engine import Engine

# Prompts that a request may have, each of which waits by itself.
MOST_PROMPTS = 128


@contextmanager
def open_answerer(spec: WorkerSpec) -> Iterator[Answerer]:
    """An answerer with an engine of its own. Raises what load, Engine and Answerer raise."""
    model = load(spec.folder, **spec.load_options)
    rows = MAX_ROWS if spec.max_rows is None else spec.max_rows
    with Engine(
        model,
        max_rows=rows,
        max_tokens=_most_tokens(model, spec.neighbours),
        max_waiting=2 * DEPTH * rows * MOST_PROMPTS,
        prefix_cache=spec.prefix_cache,
    ) as engine:
        terms = Terms(spec.form, spec.parameters, spec.created, spec.name)
        yield Answerer(engine, rows, terms)


def _most_tokens(model: Model, neighbours: int) -> int | None:
    """The positions that half of a worker's share of the free memory holds."""
    free = available_memory()
    if free is None or not model.session.runs_on.in_host_memory:
        return None
    fitting = free // 2 // neighbours // max(1, cache_bytes_per_token(model.session.inputs))
    return max(fitting, model.decoder.n_positions)
