"""How much an engine takes on: rows, tokens in the cache, requests in the queue."""

from __future__ import annotations

from typing import NamedTuple

from gpt2onnx.runtime.decoder.cache_size import cache_bytes_per_token
from gpt2onnx.runtime.machine.memory import available_memory
from gpt2onnx.runtime.model import Model
from gpt2onnx.samplers.params.values import integer_where

MAX_ROWS = 32
_AT_LEAST_1 = integer_where(lambda n: n >= 1, "an integer, 1 or more")
_NOT_NEGATIVE = integer_where(lambda n: n >= 0, "an integer, 0 or more")


class Capacity(NamedTuple):
    """The most of each."""

    max_rows: int
    max_tokens: int
    max_waiting: int


def capacity_of(
    model: Model, max_rows: int | None, max_tokens: int | None, max_waiting: int
) -> Capacity:
    """What is given, or else what the machine has memory for. Raises ParameterError."""
    rows = MAX_ROWS if max_rows is None else _AT_LEAST_1("max_rows", max_rows)
    tokens = rows * model.decoder.n_positions
    if max_tokens is not None:
        tokens = min(tokens, _AT_LEAST_1("max_tokens", max_tokens))
    elif model.session.runs_on.in_host_memory and (free := available_memory()) is not None:
        token_bytes = max(1, cache_bytes_per_token(model.session.inputs))
        fitting = free // 2 // token_bytes
        tokens = min(tokens, max(fitting, model.decoder.n_positions))
    return Capacity(rows, tokens, _NOT_NEGATIVE("max_waiting", max_waiting))
