"""How much of a program's time its model's decoder takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gpt2onnx


@contextmanager
def decoder_time(model: gpt2onnx.Model, clock: Callable[[], float]) -> Iterator[list[float]]:
    """The seconds by `clock` that the decoder's reads have taken since: one number, which grows."""
    read, spent = model.decoder.read, [0.0]

    def timed_read(reads: Any) -> Any:
        began = clock()
        results = read(reads)
        spent[0] += clock() - began
        return results

    model.decoder.read = timed_read  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        model.decoder.read = read  # type: ignore[method-assign]
