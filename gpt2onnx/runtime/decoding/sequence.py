"""One sequence that is being written: its tokens so far, what chooses the next, and why it ends.

Knows samplers; knows no decoder and no text: a callback is told each token, and may end a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from gpt2onnx.runtime.decoder.protocol import Ids, Logits, Result
from gpt2onnx.samplers import (
    Choice,
    Draw,
    GenerationParams,
    Penalty,
    Sampler,
    TopLogits,
    generator,
    is_stopped,
)
from gpt2onnx.samplers.candidates import Left

# eos: an end token; stop: a stop string, or a grammar's end; stopped: stop_fn; length:
# max_new_tokens; context: the model has no position left; time: max_time.
FinishReason = Literal["eos", "stop", "stopped", "length", "context", "time"]


class Step(NamedTuple):
    """One token of one sequence."""

    sequence: int
    token_id: int
    logprob: float  # the model's own, before penalties and warpers
    finish_reason: FinishReason | None
    logits: Logits  # [vocab], the model's own; [0] where the largest were enough
    processed_logprob: float  # after penalties and warpers
    left: Left  # what those left


class TokenSequence:
    """One sequence that is being written: its tokens so far, and what decides the next."""

    def __init__(
        self,
        index: int,
        prompt: Ids,
        params: GenerationParams,
        draw: int = 0,
        stops: Callable[[int], bool] = lambda token_id: False,
        constraint: Penalty | None = None,
    ) -> None:
        """The draw-th sequence of a prompt [n]; `stops` is told each token and may end it.

        `constraint` is Sampler's.
        """
        self.index, self.prompt = index, prompt
        self._draw = draw
        self.params = params.for_prompt(len(prompt))
        self.finish_reason: FinishReason | None = None
        # Without a draw nothing needs numpy's random numbers, which take 6 ms to import.
        rng = generator(params.seed, draw) if params.do_sample else None
        self.sampler = Sampler(self.params, len(prompt), index, rng, constraint)
        self._stops = stops
        self._tokens = prompt.copy()
        self._length = len(prompt)
        self.prepared: Choice | Draw | None = None  # of the next token

    @property
    def slides(self) -> bool:
        """Whether the sequence goes on past the model's last position."""
        return self.params.overflow == "slide"

    @property
    def history(self) -> Ids:
        """Prompt and new tokens [n]."""
        return self._tokens[: self._length]

    @property
    def written(self) -> Ids:
        """The new tokens alone [n]."""
        return self.history[len(self.prompt) :]

    @property
    def remaining(self) -> int:
        """How many new tokens max_new_tokens leaves."""
        return self.params.max_new_tokens - (self._length - len(self.prompt))

    def begin_with(self, tokens: Sequence[int]) -> int:
        """Take tokens as if they had been chosen: how many, until one of them ended the sequence.

        Where the last one does, there is a `finish_reason`.
        """
        count = 0
        while count < len(tokens) and not self.finish_reason:
            self._append(tokens[count])
            self.finish_reason = self._judge(tokens[count], has_room=True, in_time=True)
            count += 1
        self.sampler.skip(count)
        return count

    def prepare(self, result: Result) -> None:
        """Choose the next token, or come to its draw, before `sample_from` is called.

        Not with functions of the user's, which may count on the order of sequences.
        """
        if self.params.prefix_allowed_tokens_fn is None and self.params.stop_fn is None:
            logits, top = result.logits_at(-1), result.top_at(-1)
            self.prepared = self.sampler.prepare(self.history, logits, top)

    def sample_from(self, result: Result, place: int, has_room: bool, in_time: bool) -> Step:
        """Append the next token, given what came of one of the positions that were wanted."""
        logits, top = result.logits_at(place), result.top_at(place)
        return self.sample(logits, has_room, in_time, top)

    def sample(
        self, logits: Logits, has_room: bool, in_time: bool, top: TopLogits | None = None
    ) -> Step:
        """Append the next token, given the logits [vocab] after the last one, and the largest."""
        return self.take(self._choice(logits, top), logits, has_room, in_time)

    def _choice(self, logits: Logits, top: TopLogits | None) -> Choice:  # [vocab]
        if prepared := self.prepared:
            self.prepared = None
            return prepared.choice if isinstance(prepared, Draw) else prepared
        if self.params.return_alternatives and self._length == len(self.prompt):
            return self.sampler.alternative(self.history, logits, self._draw)
        return self.sampler.sample(self.history, logits, top)

    def take(self, choice: Choice, logits: Logits, has_room: bool, in_time: bool) -> Step:
        """Append a token that was chosen, given the logits [vocab] after the last one."""
        token, logprob, processed, left = choice
        self._append(token)
        self.finish_reason = self._judge(token, has_room, in_time)
        reason = self.finish_reason
        return Step(self.index, token, logprob, reason, logits, processed, left)

    def _append(self, token: int) -> None:
        if self._length == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.empty(max(64, self._length), np.int64)])
        self._tokens[self._length] = token
        self._length += 1

    def _judge(self, token: int, has_room: bool, in_time: bool) -> FinishReason | None:
        stopped = self._stops(token)
        if token in self.params.eos_token_ids:
            return "eos"
        if stopped:
            return "stop"
        if self._is_stopped():
            return "stopped"
        if not self.remaining:
            return "length"
        if not has_room:
            return "context"
        return None if in_time else "time"

    def _is_stopped(self) -> bool:
        stop_fn = self.params.stop_fn
        return stop_fn is not None and is_stopped(
            self.history, stop_fn=stop_fn, sequence_index=self.index
        )
