"""What is drawn, or greedily written: tokens as they come, and the texts that they make.

Knows writers, tasks and results; knows nothing of how a token is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gpt2onnx.runtime.decoding import ranking
from gpt2onnx.runtime.decoding.results import Generation, Token
from gpt2onnx.runtime.decoding.sequence import Step, TokenSequence
from gpt2onnx.runtime.decoding.task import Task
from gpt2onnx.runtime.decoding.text_sequence import TextSequence
from gpt2onnx.runtime.decoding.top_tokens import TopTokens
from gpt2onnx.samplers import GenerationParams, entropy

if TYPE_CHECKING:
    from gpt2onnx.runtime.decoding.speculation import SpeculationStats


def _begun(sequence: TokenSequence) -> Generation:
    """A text before its first token, which is all of it where what it begins with ended it."""
    return Generation(
        sequence.prompt.tolist(),
        finish_reason=sequence.finish_reason,
        prefill_ids=sequence.written.tolist(),
    )


class DrawnTexts:
    """The sequences of a call: its tasks, and what becomes of the steps that they tell."""

    def __init__(
        self,
        writers: Sequence[TextSequence],
        tasks: Sequence[Task[Step]],
        params: GenerationParams,
        top: TopTokens,
        stats: Mapping[int, SpeculationStats],
        entropies: bool = False,
    ) -> None:
        """`stats` tell how drafts did, by the sequence; none without drafts."""
        self.tasks = tasks
        self._writers, self._params, self._top = writers, params, top
        self._stats, self._entropies = stats, entropies
        self._written = [_begun(writer.sequence) for writer in writers]

    def token(self, step: Step) -> Token:
        """A step's token, with what it adds to its text."""
        last = step.finish_reason is not None
        return Token(
            step.token_id,
            self._writers[step.sequence].take(last),
            step.logprob,
            step.finish_reason,
            self._top(step.logits),
            self._stats.get(step.sequence) if last else None,
            step.sequence,
            step.processed_logprob,
            float(entropy(step.logits)) if self._entropies else None,
            self._top.among(step.left),
        )

    def add(self, token: Token) -> None:
        """Take a token into its text."""
        self._written[token.sequence].add(token)

    def texts(self) -> list[list[Generation]]:
        """What was written, by prompt."""
        return ranking.given(self._written, self._params)
