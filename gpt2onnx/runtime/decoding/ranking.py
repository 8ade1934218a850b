"""Which of a call's texts are given, in what order, and what the model thinks of their prompts.

Knows results and the decoder's seam; knows nothing of how texts are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gpt2onnx.runtime.decoder.protocol import Decoder
from gpt2onnx.runtime.decoding.scoring import score
from gpt2onnx.runtime.results import Generation
from gpt2onnx.samplers import GenerationParams


def given(written: list[Generation], params: GenerationParams) -> list[list[Generation]]:
    """Of each prompt num_return_sequences texts: with best_of the best ones, best first.

    The best has the highest mean log-probability of a token, the model's own; of equal ones the
    earlier draw comes first.
    """
    count = params.num_drawn
    groups = [written[start : start + count] for start in range(0, len(written), count)]
    if params.best_of is None:
        return groups
    ranked = [sorted(group, key=lambda each: -each.mean_logprob) for group in groups]
    return [group[: params.num_return_sequences] for group in ranked]


def add_prompt_logprobs(decoder: Decoder[Any], written: Iterable[Generation]) -> None:
    """Note the log-probabilities of each prompt's tokens; each prompt is read once."""
    known: dict[tuple[int, ...], list[float]] = {}
    for each in written:
        prompt = tuple(each.prompt_token_ids)
        if prompt not in known:
            # the first token, which nothing predicts, has none
            known[prompt] = score(decoder, np.array(prompt)).tolist() if prompt[1:] else []
        each.prompt_logprobs = list(known[prompt])
