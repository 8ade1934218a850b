"""Classifier-free guidance: each sequence is read a second time, behind another prompt or none.

Sanchez et al., 2306.17806. The unconditional context is the negative prompt or, as in transformers,
the prompt's last token alone; the tokens that come are appended to both contexts, in one step of
the decoder. Guidance precedes all penalties.

Knows the decoder's seam and token sequences; knows no graph and no text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.runtime.decoder.protocol import Decoder, Ids, Logits, Read, Result
from gpt2onnx.runtime.decoding.sequence import Step, TokenSequence
from gpt2onnx.runtime.decoding.task import DrawingTask, by_prompt, parts
from gpt2onnx.samplers import GenerationParams, token_logprobs
from gpt2onnx.samplers.guidance import guide


def guidance_of(params: GenerationParams, negative: Ids | None) -> Guidance | None:
    """The strategy that the parameters ask for; None where none is.

    Raises ParameterError where a negative prompt [n] is given and has no effect.
    """
    guided = params.is_on("guidance_scale")
    if negative is not None and not guided:
        raise ParameterError(
            *(Given("negative_prompt"), " has no effect without ", Given("guidance_scale")),
            *(" other than 1: set that, or leave ", Given("negative_prompt"), " out"),
        )
    return Guidance(params.guidance_scale or 0.0, negative) if guided else None


class Guidance:
    """A strategy: how far it leads, and away from what."""

    rows_each = 2

    def __init__(self, scale: float, negative: Ids | None = None) -> None:
        """`negative` [n] is the negative prompt of all sequences."""
        self.scale, self.negative = scale, negative

    def tasks(self, decoder: Decoder[Any], sequences: Sequence[TokenSequence]) -> list[GuidedTask]:
        """A task for each prompt; those of one prompt stand side by side."""
        return [GuidedTask(decoder, group, self) for group in by_prompt(sequences)]


class GuidedTask(DrawingTask):
    """One prompt's sequences, each with a second row behind the negative prompt.

    A sequence ends where either context has no position left.
    """

    def __init__(
        self, decoder: Decoder[Any], sequences: Iterable[TokenSequence], guidance: Guidance
    ) -> None:
        super().__init__(decoder, sequences)
        self.rows_needed *= 2
        self._scale = guidance.scale
        negative, prompt = guidance.negative, self.live[0].prompt
        negative = prompt[-1:] if negative is None else negative
        self._unread_negative = parts(decoder, negative, self.live[0].written)
        self._unconditional: dict[int, Any] = {}  # rows by the sequence's index
        self._without: dict[int, Logits] = {}  # [vocab], of those rows

    @property
    def rows(self) -> Sequence[Any]:
        return [*super().rows, *self._unconditional.values()]

    def plan(self) -> list[Read]:
        """The conditional rows' reads, then those of the others."""
        reads = super().plan()
        if not self._unread_negative:
            return reads + [
                Read(self._unconditional[each.index], each.history[-1:]) for each in self.live
            ]
        first = self.live[0].index
        if first not in self._unconditional:
            self._unconditional[first] = self.decoder.new_row()
        return [*reads, Read(self._unconditional[first], self._unread_negative[0], prompt=True)]

    def take(self, results: Sequence[Result], in_time: bool) -> list[Step]:
        half = len(results) // 2
        first, *others = self.live
        if self._unread_negative:  # the prompts: they are read once for all
            del self._unread_negative[0]
            if self._unread_negative:
                return super().take(results[:half], in_time)
            for other in others:
                row = self._unconditional[first.index]
                self._unconditional[other.index] = self.decoder.fork(row)
            results = [results[0]] + [results[1]] * len(self.live)
        after = zip(self.live, results[half:], strict=True)
        self._without = {each.index: result.logits[-1] for each, result in after}
        return super().take(results[:half], in_time)

    def next_read(self, sequence: TokenSequence) -> Read:
        return Read(self.row(sequence), sequence.history[-1:])

    def sample(self, sequence: TokenSequence, result: Result, in_time: bool) -> list[Step]:
        """Choose from guided logits [vocab]; what is told beside the token is the model's own."""
        logits, without = result.logits[-1], self._without[sequence.index]
        has_room = not (
            self.is_full(sequence)
            or self._unconditional[sequence.index].length == self.decoder.n_positions
        )
        step = sequence.sample(guide(logits, without, self._scale), has_room, in_time)
        logprob = float(token_logprobs(logits, np.array(step.token_id)))
        return [step._replace(logprob=logprob, logits=logits)]

    def forget(self, sequence: TokenSequence) -> None:
        row = self._unconditional.pop(sequence.index, None)
        if row is not None:
            self.decoder.free(row)
