"""Classifier-free guidance: each sequence is read a second time, behind another prompt or none.

Sanchez et al., 2306.17806. The unconditional context is the negative prompt or, as in transformers,
the prompt's last token alone; the tokens that come are appended to both contexts, in one step of
the decoder. Guidance precedes all penalties.

Knows the decoder's seam and continuations; knows no graph and no text.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.runtime.decoder.protocol import AnyRow, Decoder, Ids, Logits
from gpt2onnx.runtime.decoding.plain import Continuation, Step, prefill
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
    """A strategy: its `run` stands in for generation.run."""

    rows_each = 2

    def __init__(self, scale: float, negative: Ids | None = None) -> None:
        """`negative` [n] is the negative prompt of all sequences."""
        self._scale, self._negative = scale, negative

    def run(
        self,
        decoder: Decoder[AnyRow],
        sequences: Sequence[Continuation],
        max_time: float | None = None,
    ) -> Generator[Step, None, None]:
        """Advance all sequences until each has finished; those of one prompt stand side by side.

        A sequence ends where either context has no position left. `max_time` is in seconds. Closing
        the iterator frees the rows that are still in use.
        """
        deadline = np.inf if max_time is None else time.monotonic() + max_time
        conditional: dict[int, AnyRow] = {}
        unconditional: dict[int, AnyRow] = {}
        contexts = (conditional, unconditional)
        live = list(sequences)
        try:
            prompts = ((each.index, each.prompt) for each in live)
            others = ((each.index, self._unconditional(each)) for each in live)
            logits = prefill(decoder, conditional, prompts)
            without = prefill(decoder, unconditional, others)
            while live:
                in_time = time.monotonic() < deadline
                steps = []
                for each in live:
                    full = (rows[each.index].length == decoder.n_positions for rows in contexts)
                    after = logits[each.index], without[each.index]
                    steps.append(self._choose(each, *after, not any(full), in_time))
                    if each.finish_reason:
                        for rows in contexts:
                            decoder.free(rows.pop(each.index))
                yield from steps
                live = [each for each in live if not each.finish_reason]
                logits, without = _advance(decoder, conditional, unconditional, live)
        finally:
            for row in (*conditional.values(), *unconditional.values()):
                decoder.free(row)

    def _unconditional(self, sequence: Continuation) -> Ids:
        """What a sequence's second row begins with."""
        return sequence.prompt[-1:] if self._negative is None else self._negative

    def _choose(
        self, sequence: Continuation, logits: Logits, without: Logits, has_room: bool, in_time: bool
    ) -> Step:
        """Choose from guided logits [vocab]; what is told beside the token is the model's own."""
        step = sequence.choose(guide(logits, without, self._scale), has_room, in_time)
        logprob = float(token_logprobs(logits, np.array(step.token_id)))
        return step._replace(logprob=logprob, logits=logits)


def _advance(
    decoder: Decoder[AnyRow],
    conditional: dict[int, AnyRow],
    unconditional: dict[int, AnyRow],
    live: Sequence[Continuation],
) -> tuple[dict[int, Logits], dict[int, Logits]]:
    """Append each sequence's newest token to both its rows: the logits [vocab] after it."""
    if not live:
        return {}, {}
    indices = [sequence.index for sequence in live]
    rows = [context[index] for context in (conditional, unconditional) for index in indices]
    newest = np.array([sequence.history[-1] for sequence in live] * 2)
    stepped = decoder.step(rows, newest)
    logits, without = stepped[: len(live)], stepped[len(live) :]
    return dict(zip(indices, logits, strict=True)), dict(zip(indices, without, strict=True))
