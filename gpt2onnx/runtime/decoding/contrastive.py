"""Contrastive search: the most probable tokens are all read, and the best of them is kept.

Su et al., 2202.06417. Each sequence has as many rows as candidates, alike but for the last token.
A round reads every candidate of every sequence in one step; the chosen row's last token then takes
the others' place, and its logits give the next candidates.

Knows the decoder's seam and continuations; knows no graph and no text.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import Any, Generic, cast

import numpy as np

from gpt2onnx.errors import Advised, Given, ParameterError, PromptTooLongError
from gpt2onnx.runtime.decoder.protocol import AnyRow, Decoder, Hidden, HiddenDecoder, Ids, Logits
from gpt2onnx.runtime.decoding.plain import Continuation, Step
from gpt2onnx.samplers import Candidates, Choice, GenerationParams, token_logprobs, top_logprobs
from gpt2onnx.samplers.candidates import FloatArray
from gpt2onnx.samplers.contrastive import contrast, unit
from gpt2onnx.samplers.warpers import DEFAULT_TOP_K

# So many tokens of a prompt are read at once: each has logits, of which only the last are kept.
CHUNK = 128


def contrastive_of(params: GenerationParams, decoder: Decoder[Any]) -> Contrastive | None:
    """The strategy that the parameters ask for; None where none is.

    Errors: ParameterError where the model can't tell its hidden states.
    """
    if not params.penalty_alpha:
        return None
    _with_hidden_states(decoder)
    top_k = params.top_k or DEFAULT_TOP_K
    return Contrastive(params.penalty_alpha, min(top_k, decoder.vocab_size))


class Contrastive:
    """A strategy: its `run` stands in for generation.run."""

    def __init__(self, alpha: float, top_k: int) -> None:
        self._alpha, self._top_k = alpha, top_k
        self.rows_each = top_k

    def run(
        self,
        decoder: Decoder[AnyRow],
        sequences: Sequence[Continuation],
        max_time: float | None = None,
    ) -> Generator[Step, None, None]:
        """Advance all sequences until each has finished.

        A sequence ends with the model's last position: a candidate has to be read. `max_time` is in
        seconds. Closing the iterator frees the rows that are still in use.

        Errors: PromptTooLongError for a prompt that leaves no position.
        """
        deadline = np.inf if max_time is None else time.monotonic() + max_time
        hidden_decoder = _with_hidden_states(decoder)
        live: list[_Search[AnyRow]] = []
        try:
            for sequence in sequences:
                live.append(_Search(hidden_decoder, sequence, self._top_k))
                live[-1].prefill()
            while live:
                in_time = time.monotonic() < deadline
                steps = self._advance(hidden_decoder, live, in_time)
                for each in live:
                    if each.sequence.finish_reason:
                        each.free()
                live = [each for each in live if each.rows]
                yield from steps
        finally:
            for each in live:
                each.free()

    def _advance(
        self, decoder: HiddenDecoder[AnyRow], live: Sequence[_Search[AnyRow]], in_time: bool
    ) -> list[Step]:
        """Read all candidates, and append the best one to each sequence."""
        found = [each.candidates() for each in live]
        rows = [row for each, ids in zip(live, found, strict=True) for row in each.rows[: len(ids)]]
        logits = decoder.step(rows, np.concatenate(found))
        states = unit(decoder.hidden_states)
        ends = np.cumsum([len(ids) for ids in found])[:-1]
        parts = zip(live, np.split(logits, ends), np.split(states, ends), strict=True)
        return [
            each.keep_best(after, unit_states, self._alpha, in_time)
            for each, after, unit_states in parts
        ]


class _Search(Generic[AnyRow]):
    """One sequence: its rows, and what its next candidates are judged by."""

    def __init__(self, decoder: HiddenDecoder[AnyRow], sequence: Continuation, top_k: int) -> None:
        self.sequence = sequence
        self.rows: list[AnyRow] = []
        self._decoder, self._top_k = decoder, top_k
        self._left = Candidates(np.empty(0, np.int64), np.empty(0, np.float32))  # by penalties
        self._ids: Ids = np.empty(0, np.int64)  # [k], the candidates
        self._logprobs: FloatArray = np.empty(0, np.float32)  # [k], after penalties
        self._logits: Logits = np.empty(0, np.float32)  # [vocab], after the newest token
        self._states: Hidden = np.empty((decoder.n_positions, decoder.hidden_size), np.float32)

    def prefill(self) -> None:
        """Read the prompt, and make a row for each candidate. Errors: PromptTooLongError."""
        decoder, prompt = self._decoder, self.sequence.prompt
        if len(prompt) >= decoder.n_positions:
            raise PromptTooLongError(
                f"the prompt has {len(prompt)} tokens, the model {decoder.n_positions} positions: "
                "contrastive search reads each candidate and needs one more; shorten the prompt, "
                "or set ",
                *(Advised("overflow", "truncate"), " to keep its end"),
            )
        row = decoder.new_row()
        self.rows.append(row)
        for ids in np.array_split(prompt, -(-len(prompt) // CHUNK)):
            self._logits = decoder.extend(row, ids)[-1]
            self._states[row.length - len(ids) : row.length] = unit(decoder.hidden_states)
        for _ in range(self._top_k - 1):
            self.rows.append(decoder.fork(row))

    def candidates(self) -> Ids:
        """The most probable tokens after penalties [k], best first; few where constraints are."""
        self._left = left = self.sequence.sampler.candidates(self.sequence.history, self._logits)
        best, self._logprobs = top_logprobs(left.logits, min(self._top_k, len(left.ids)))
        self._ids = left.ids[best]
        return self._ids

    def keep_best(self, logits: Logits, states: Hidden, alpha: float, in_time: bool) -> Step:
        """Append one of the candidates: each has logits [k, vocab] and a unit state [k, d]."""
        length = self.rows[0].length
        context = self._states[: length - 1]
        best = contrast(np.exp(self._logprobs), states, context, alpha)
        token = int(self._ids[best])
        logprob = float(token_logprobs(self._logits, np.array(token)))
        choice = Choice(token, logprob, float(self._logprobs[best]), self._left)
        has_room = length < self._decoder.n_positions
        step = self.sequence.take(choice, self._logits, has_room, in_time)
        if not step.finish_reason:
            self._logits, self._states[length - 1] = logits[best], states[best]
            for row in self.rows:
                if row is not self.rows[best]:
                    self._decoder.copy(self.rows[best], row, length - 1)
        return step

    def free(self) -> None:
        while self.rows:
            self._decoder.free(self.rows.pop())


def _with_hidden_states(decoder: Decoder[AnyRow]) -> HiddenDecoder[AnyRow]:
    """The same decoder, which tells its hidden states. Errors: ParameterError where it can't."""
    if not getattr(decoder, "hidden_size", 0):
        raise ParameterError(
            Given("penalty_alpha"),
            " needs the model's hidden states, which its graph doesn't give: export the model "
            "again with with_hidden_states=True (--with-hidden-states), or set ",
            Advised("penalty_alpha", 0),
        )
    return cast(HiddenDecoder[AnyRow], decoder)
