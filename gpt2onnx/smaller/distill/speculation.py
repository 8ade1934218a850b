"""What a student brings as its teacher's draft: both exported and timed, with it and without."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from gpt2onnx.models import load
from gpt2onnx.smaller.distill.corpus import Corpus

TEXTS, NEW, ROUNDS = 4, 128, 3


def speedup(teacher: Path, student: Path, corpus: Corpus) -> float:
    """How many times as fast greedy decoding is with the draft, over some texts held out.

    Of each text the first quarter of a context, up to 64 tokens, is the prompt.
    """
    model, draft = load(teacher, "cpu"), load(student, "cpu")
    size = model.decoder.n_positions // 4
    prompts = [piece.ids[:-1].tolist() for piece in corpus.pieces(min(size, 64))]
    chosen = [prompts[i] for i in np.linspace(0, len(prompts) - 1, TEXTS).astype(int)]
    given: dict[str, Any] = {"max_new_tokens": min(NEW, 2 * size), "eos_token_id": ()}
    plain: list[float] = []
    drafted: list[float] = []
    for _ in range(ROUNDS):  # in turn, so that both meet whatever else the machine does
        for times, assistant in ((plain, None), (drafted, draft)):
            started = time.perf_counter()
            for prompt in chosen:
                model.generate(prompt, draft=assistant, **given)
            times.append(time.perf_counter() - started)
    return min(plain) / min(drafted)
