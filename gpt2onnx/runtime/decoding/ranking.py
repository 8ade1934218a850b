"""Which of a call's texts are given, in what order, and what the model thinks of their prompts.

Knows results and the decoder's seam; knows nothing of how texts are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gpt2onnx.runtime.decoder.protocol import Decoder, Ids
from gpt2onnx.runtime.decoding.results import Alternative, Generation
from gpt2onnx.runtime.decoding.scoring import LogprobsTask
from gpt2onnx.runtime.decoding.top_tokens import TopTokens
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


class PromptLogprobs:
    """The log-probabilities of prompts' tokens: a task for each prompt, which is read once."""

    def __init__(self, decoder: Decoder[Any], prompts: Iterable[Ids], top: TopTokens) -> None:
        self._top = top
        self._known = {
            prompt.tobytes(): LogprobsTask(decoder, prompt, top=top.count)
            for prompt in prompts
            if len(prompt) > 1
        }

    @property
    def tasks(self) -> list[LogprobsTask]:
        return list(self._known.values())

    def add_to(self, written: Iterable[Generation]) -> None:
        """Note them, once the tasks are done. The first token, which nothing predicts, has none."""
        for each in written:
            task = self._known.get(np.array(each.prompt_token_ids, np.int64).tobytes())
            each.prompt_logprobs = task.logprobs.tolist() if task else []
            each.prompt_alternatives = alternatives(task, self._top) if task else []


def alternatives(task: LogprobsTask, top: TopTokens) -> list[tuple[Alternative, ...]]:
    """The most probable tokens in the place of each that a task has scored."""
    pairs = zip(task.top_ids, task.top_logprobs, strict=True)
    return [top.named(*pair) for pair in pairs] if top.wanted else []
