"""A call of generate, stream or an engine's submit, understood: tasks, and what becomes of them.

Knows tasks and results; knows nothing of when they run, and of prompts their ids alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from gpt2onnx.runtime.decoding.beam_writer import BeamTexts
from gpt2onnx.runtime.decoding.drawn import DrawnTexts
from gpt2onnx.runtime.decoding.ranking import PromptLogprobs
from gpt2onnx.runtime.decoding.task import Task
from gpt2onnx.runtime.results import Generation, Token
from gpt2onnx.samplers import GenerationParams


@dataclass(frozen=True)
class Call:
    """What a call asks for."""

    params: GenerationParams
    texts: DrawnTexts | BeamTexts
    prompt_logprobs: PromptLogprobs | None
    is_batch: bool  # of prompts

    @property
    def tasks(self) -> Sequence[Task[Any]]:
        """A task for each prompt."""
        return self.texts.tasks

    @property
    def scoring_tasks(self) -> Sequence[Task[Any]]:
        """Those that prompt_logprobs asks for."""
        return self.prompt_logprobs.tasks if self.prompt_logprobs else []

    def take(self, event: Any) -> Token:
        """Take what a task tells into its text: the token that it comes to."""
        assert isinstance(self.texts, DrawnTexts)  # a beam search tells nothing before its end
        token = self.texts.token(event)
        self.texts.add(token)
        return token

    def results(self) -> Any:
        """What generate gives, once all tasks are done."""
        groups = self.texts.texts()
        if self.prompt_logprobs:
            self.prompt_logprobs.add_to(chain.from_iterable(groups))
        several = self.params.num_return_sequences > 1
        results: list[Generation | list[Generation]] = [
            group if several else group[0] for group in groups
        ]
        return results if self.is_batch else results[0]
