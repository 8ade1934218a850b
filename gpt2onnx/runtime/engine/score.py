"""A text's own logits and log-probabilities: one task, run by itself."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.decoder.protocol import Decoder, Ids
from gpt2onnx.runtime.decoding.scoring import LogprobsTask, Piece, ScoringTask
from gpt2onnx.runtime.engine.loop import run


def walk(
    decoder: Decoder[Any], inputs: Ids, stride: int | None = None
) -> Generator[Piece, None, None]:
    """The logits after each of the inputs [n], in order and in pieces; all as ScoringTask's.

    Closing the generator frees its row.
    """
    return run(decoder, [ScoringTask(decoder, inputs, stride)])


def score(decoder: Decoder[Any], ids: Ids, stride: int | None = None) -> NDArray[np.float32]:
    """The log-probability of each of ids[1:], given those before it: [n - 1]."""
    task = LogprobsTask(decoder, ids, stride)
    for _ in run(decoder, [task]):
        pass
    return task.logprobs
