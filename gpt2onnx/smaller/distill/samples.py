"""Texts that a teacher writes for its student: drawn from it as it is, with our own engine."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.serving.engine import Engine
from gpt2onnx.serving.handle import Handle
from gpt2onnx.smaller.distill.corpus import HELD_OUT_SHARE, Corpus, of_ids
from gpt2onnx.smaller.distill.training import Progress

ROWS = 32
AS_IT_IS: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


def written(model: Path, first: int | None, samples: int, seed: int, progress: Progress) -> Corpus:
    """So many texts of a model folder, each from its first token up to its end, or to its context.

    Raises ParameterError where the model has no token to begin with, and as `Engine` does.
    """
    if type(samples) is not int or samples < 2:
        raise ParameterError(Given("samples", samples), ": expected an integer of at least 2")
    if first is None:
        raise ParameterError(
            Given("samples", samples),
            ": the teacher has no token that a text begins with; give ",
            *(Given("texts"), " to learn from"),
        )
    with Engine(model, max_rows=ROWS) as engine:
        most = engine.model.decoder.n_positions - 1
        asked = 0
        texts: list[Any] = []
        waiting: deque[Handle] = deque()
        while len(texts) < samples:
            while asked < samples and len(waiting) < 2 * ROWS:  # no row is ever without one
                more = {"max_new_tokens": most, "seed": seed + asked, **AS_IT_IS}
                waiting.append(engine.submit([first], **more))
                asked += 1
            texts.append(waiting.popleft().result())
            progress("writing texts", len(texts), samples)
        tokenizer = engine.model.tokenizer
        ids = [np.array([first, *text.token_ids], np.int64) for text in texts]
    learned = max(1, samples - max(1, round(HELD_OUT_SHARE * samples)))
    size = sum(len(tokenizer.decode(list(each[1:])).encode()) for each in ids[learned:])
    return of_ids(ids[:learned], ids[learned:], size)
