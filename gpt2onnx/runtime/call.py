"""A call of generate, stream or an engine's submit, understood: tasks, and what becomes of them.

Knows tasks and results; knows nothing of when they run, and of prompts their ids alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import tokenizers

from gpt2onnx.runtime.decoding.drawn_texts import DrawnTexts
from gpt2onnx.runtime.decoding.ranking import PromptLogprobs, alternatives
from gpt2onnx.runtime.decoding.results import Generation, Score, Token
from gpt2onnx.runtime.decoding.scoring import LogprobsTask
from gpt2onnx.runtime.decoding.task import Task
from gpt2onnx.runtime.decoding.top_tokens import TopTokens
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.tokenizer.codec import decode

if TYPE_CHECKING:
    from gpt2onnx.runtime.decoding.beam_texts import BeamTexts


@dataclass(frozen=True)
class Call:
    """What a call asks for."""

    params: GenerationParams
    texts: DrawnTexts | BeamTexts
    prompt_logprobs: PromptLogprobs | None
    is_batch: bool  # of prompts

    @property
    def max_time(self) -> float | None:
        """After how many seconds it ends, from its first task's beginning."""
        return self.params.max_time

    @property
    def has_tokens(self) -> bool:
        """Whether its tasks tell tokens as they come."""
        return self.params.num_beams == 1

    @property
    def untold(self) -> int:
        """How many tokens it wrote that no task told, once all are done."""
        if self.has_tokens:
            return 0
        return sum(len(text.token_ids) for group in self.texts.texts() for text in group)

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


@dataclass(frozen=True)
class ScoreCall:
    """What a call of score asks for: a task for each text, which tell nothing before their end."""

    tasks: Sequence[LogprobsTask]
    top: TopTokens
    tokenizer: tokenizers.Tokenizer

    max_time = None
    has_tokens = False
    untold = 0
    scoring_tasks = ()

    def take(self, event: Any) -> Token:
        raise AssertionError("a score tells no tokens")

    def results(self) -> list[Score]:
        """What score gives of each text, once all tasks are done."""
        return [self._score(task) for task in self.tasks]

    def _score(self, task: LogprobsTask) -> Score:
        ids = task.targets.tolist()
        text_bytes = len(decode(self.tokenizer, ids).encode())
        return Score(ids, task.logprobs.tolist(), text_bytes, alternatives(task, self.top))
