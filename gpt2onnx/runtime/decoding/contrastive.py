"""Contrastive search: the most probable tokens are all read, and the best of them is kept.

Su et al., 2202.06417. Each sequence has as many rows as candidates, alike but for the last token.
A round reads every candidate of every sequence in one step; the chosen row's last token then takes
the others' place, and its logits give the next candidates.

Knows the decoder's seam and token sequences; knows no graph and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt2onnx.errors import Advised, Given, ParameterError, PromptTooLongError
from gpt2onnx.runtime.decoder.protocol import Decoder, Hidden, Ids, Logits, Read, Result
from gpt2onnx.runtime.decoding.sequence import Step, TokenSequence
from gpt2onnx.runtime.decoding.task import parts
from gpt2onnx.samplers import Candidates, Choice, GenerationParams, token_logprobs, top_logprobs
from gpt2onnx.samplers.candidates import FloatArray
from gpt2onnx.samplers.contrastive import contrast, unit
from gpt2onnx.samplers.warpers import DEFAULT_TOP_K


def contrastive_of(params: GenerationParams, decoder: Decoder[Any]) -> Contrastive | None:
    """The strategy that the parameters ask for; None where none is.

    Raises ParameterError where the model can't tell its hidden states.
    """
    if not params.penalty_alpha:
        return None
    require_hidden_states(decoder)
    top_k = params.top_k or DEFAULT_TOP_K
    return Contrastive(params.penalty_alpha, min(top_k, decoder.vocab_size))


class Contrastive:
    """A strategy: how much likeness counts, and of how many candidates."""

    def __init__(self, alpha: float, top_k: int) -> None:
        self.alpha = alpha
        self.rows_each = top_k

    def tasks(
        self, decoder: Decoder[Any], sequences: Sequence[TokenSequence]
    ) -> list[ContrastiveTask]:
        """A task for each sequence."""
        require_hidden_states(decoder)
        return [ContrastiveTask(decoder, each, self) for each in sequences]


class ContrastiveTask:
    """One sequence: its rows, and what its next candidates are judged by.

    It ends with the model's last position: a candidate has to be read.
    """

    def __init__(
        self, decoder: Decoder[Any], sequence: TokenSequence, contrastive: Contrastive
    ) -> None:
        self.sequence = sequence
        self.rows: list[Any] = []
        self.rows_needed = contrastive.rows_each
        self.length = len(sequence.prompt) + sequence.params.max_new_tokens
        self._decoder, self._alpha = decoder, contrastive.alpha
        self._unread = parts(decoder, sequence.prompt, sequence.written)
        self._left = Candidates(np.empty(0, np.int64), np.empty(0, np.float32))  # by penalties
        self._ids: Ids = np.empty(0, np.int64)  # [k], the candidates
        self._logprobs: FloatArray = np.empty(0, np.float32)  # [k], after penalties
        self._logits: Logits = np.empty(0, np.float32)  # [vocab], after the newest token
        self._states: Hidden = np.empty((decoder.n_positions, decoder.hidden_size), np.float32)

    @property
    def done(self) -> bool:
        return self.sequence.finish_reason is not None

    def plan(self) -> list[Read]:
        """The prompt, then a candidate for each row. Raises PromptTooLongError."""
        if not self.rows:
            self._open()
        if self._unread:
            return [Read(self.rows[0], self._unread[0], prompt=True, hidden=True)]
        ids = self._candidates()
        pairs = zip(self.rows, ids[:, None])  # noqa: B905, few where constraints are
        return [Read(row, token) for row, token in pairs]

    def take(self, results: Sequence[Result], in_time: bool) -> list[Step]:
        if not self._unread:
            return [self._keep_best(results, in_time)]
        (result,), row = results, self.rows[0]
        del self._unread[0]
        self._logits = result.logits[-1]
        self._states[row.length - len(result.hidden) : row.length] = unit(result.hidden)
        if self._unread:
            return []
        for _ in range(self.rows_needed - 1):
            self.rows.append(self._decoder.fork(row))
        return []

    def close(self) -> None:
        while self.rows:
            self._decoder.free(self.rows.pop())

    def _open(self) -> None:
        prompt, n_positions = self.sequence.history, self._decoder.n_positions
        if len(prompt) >= n_positions:
            raise PromptTooLongError(
                f"the prompt has {len(prompt)} tokens, the model {n_positions} positions: "
                "contrastive search reads each candidate and needs one more; shorten the prompt, "
                "or set ",
                *(Advised("overflow", "truncate"), " to keep its end"),
                found=len(prompt),
                expected=n_positions - 1,
            )
        self.rows.append(self._decoder.new_row())

    def _candidates(self) -> Ids:
        """The most probable tokens after penalties [k], best first; few where constraints are."""
        self._left = left = self.sequence.sampler.candidates(self.sequence.history, self._logits)
        best, self._logprobs = top_logprobs(left.logits, min(self.rows_needed, len(left.ids)))
        self._ids = left.ids[best]
        return self._ids

    def _keep_best(self, results: Sequence[Result], in_time: bool) -> Step:
        """Append one of the candidates, each of which was read."""
        length = self.rows[0].length
        context = self._states[: length - 1]
        states = unit(np.concatenate([result.hidden for result in results]))  # [k, hidden_size]
        best = contrast(np.exp(self._logprobs), states, context, self._alpha)
        token = int(self._ids[best])
        logprob = float(token_logprobs(self._logits, np.array(token)))
        choice = Choice(token, logprob, float(self._logprobs[best]), self._left.itself)
        has_room = length < self._decoder.n_positions
        step = self.sequence.take(choice, self._logits, has_room, in_time)
        if step.finish_reason:
            self.close()
            return step
        self._logits, self._states[length - 1] = results[best].logits[-1], states[best]
        for row in self.rows:
            if row is not self.rows[best]:
                self._decoder.copy(self.rows[best], row, length - 1)
        return step


def require_hidden_states(decoder: Decoder[Any]) -> None:
    """Raises ParameterError where the model can't tell its hidden states."""
    if not decoder.hidden_size:
        raise ParameterError(
            Given("penalty_alpha"),
            " needs the model's hidden states, which its graph doesn't give: export the model "
            "again with with_hidden_states=True (--with-hidden-states), or set ",
            Advised("penalty_alpha", 0),
        )
