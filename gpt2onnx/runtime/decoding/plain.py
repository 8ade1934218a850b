"""The autoregressive loop: prompts in, tokens out, one step at a time.

Sequences share every step and leave it when they finish; a prompt that several are drawn for is
prefilled once and forked. Knows the decoder's seam and samplers; knows no graph and no text:
whoever does is told each token, and may end a sequence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Literal, NamedTuple, TypeAlias, cast

import numpy as np

from gpt2onnx.runtime.decoder.protocol import AnyRow, Decoder, Ids, LargestDecoder, Logits
from gpt2onnx.samplers import (
    Candidates,
    Choice,
    GenerationParams,
    Penalty,
    Sampler,
    TopLogits,
    generator,
    is_stopped,
)

# eos: an end token; stop: a stop string, or a grammar's end; stopped: stop_fn; length:
# max_new_tokens; context: the model has no position left; time: max_time.
FinishReason = Literal["eos", "stop", "stopped", "length", "context", "time"]
# What follows a token: all logits [vocab], or where they settle the choice the largest alone.
Scores: TypeAlias = Logits | TopLogits


class Step(NamedTuple):
    """One token of one sequence."""

    sequence: int
    token_id: int
    logprob: float  # the model's own, before penalties and warpers
    finish_reason: FinishReason | None
    logits: Logits  # [vocab], the model's own; [0] where the largest were enough
    processed_logprob: float  # after penalties and warpers
    candidates: Candidates  # what those left


class Continuation:
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
        self.sampler = Sampler(
            self.params, len(prompt), index, generator(params.seed, draw), constraint
        )
        self._stops = stops
        self._tokens = prompt.copy()
        self._length = len(prompt)

    @property
    def slides(self) -> bool:
        """Whether the sequence goes on past the model's last position."""
        return self.params.overflow == "slide"

    @property
    def history(self) -> Ids:
        """Prompt and new tokens [n]."""
        return self._tokens[: self._length]

    @property
    def remaining(self) -> int:
        """How many new tokens max_new_tokens leaves."""
        return self.params.max_new_tokens - (self._length - len(self.prompt))

    def choose(self, logits: Scores, has_room: bool, in_time: bool) -> Step:
        """Append the next token, given what follows the last one."""
        if isinstance(logits, TopLogits):
            choice = self.sampler.choose_of_largest(logits)
            return self.take(choice, logits.logits[:0], has_room, in_time)
        if self.params.return_alternatives and self._length == len(self.prompt):
            choice = self.sampler.alternative(self.history, logits, self._draw)
        else:
            choice = self.sampler.choose(self.history, logits)
        return self.take(choice, logits, has_room, in_time)

    def take(self, choice: Choice, logits: Logits, has_room: bool, in_time: bool) -> Step:
        """Append a token that was chosen, given the logits [vocab] after the last one."""
        token, logprob, processed, candidates = choice
        self._append(token)
        self.finish_reason = self._judge(token, has_room, in_time)
        reason = self.finish_reason
        return Step(self.index, token, logprob, reason, logits, processed, candidates)

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


def run(
    decoder: Decoder[AnyRow],
    sequences: Sequence[Continuation],
    max_time: float | None = None,
    whole: bool = True,
) -> Generator[Step, None, None]:
    """Advance all sequences until each has finished; those of one prompt stand side by side.

    `max_time` is in seconds. `whole` is whether steps must have all logits. Closing the iterator
    frees the rows that are still in use.
    """
    deadline = np.inf if max_time is None else time.monotonic() + max_time
    rows: dict[int, AnyRow] = {}
    live = list(sequences)
    try:
        logits: Mapping[int, Scores]
        logits = prefill(decoder, rows, ((each.index, each.prompt) for each in live))
        while live:
            in_time = time.monotonic() < deadline
            steps = [
                sequence.choose(
                    logits[sequence.index],
                    has_room=sequence.slides or not _is_full(decoder, rows[sequence.index]),
                    in_time=in_time,
                )
                for sequence in live
            ]
            for sequence in live:
                if sequence.finish_reason:
                    decoder.free(rows.pop(sequence.index))
            yield from steps
            live = [sequence for sequence in live if not sequence.finish_reason]
            logits = _advance(decoder, rows, live, whole)
    finally:
        for row in rows.values():
            decoder.free(row)


def prefill(
    decoder: Decoder[AnyRow], rows: dict[int, AnyRow], contexts: Iterable[tuple[int, Ids]]
) -> dict[int, Logits]:
    """Give each sequence a row that holds its context, computed once for neighbours that share it.

    `contexts` are pairs of a sequence's index and ids [n]: the logits [vocab] after them, by index.
    """
    logits: dict[int, Logits] = {}
    for _, group in groupby(contexts, key=lambda context: context[1].tobytes()):
        (first, ids), *others = group
        rows[first] = decoder.new_row()
        logits[first] = decoder.prefill(rows[first], ids)
        for other, _ in others:
            rows[other] = decoder.fork(rows[first])
            logits[other] = logits[first]
    return logits


def _advance(
    decoder: Decoder[AnyRow],
    rows: dict[int, AnyRow],
    live: Sequence[Continuation],
    whole: bool,
) -> Mapping[int, Scores]:
    """Append each sequence's newest token to its row: what follows it, by index."""
    full = [sequence for sequence in live if _is_full(decoder, rows[sequence.index])]
    others = [sequence for sequence in live if not _is_full(decoder, rows[sequence.index])]
    found: dict[int, Scores] = {
        sequence.index: _slide(decoder, rows[sequence.index], sequence) for sequence in full
    }
    if others:
        stepped = _step(decoder, [rows[sequence.index] for sequence in others], others, whole)
        found.update(zip((sequence.index for sequence in others), stepped, strict=True))
    return found


def _step(
    decoder: Decoder[AnyRow], rows: Sequence[AnyRow], sequences: Sequence[Continuation], whole: bool
) -> Sequence[Scores]:
    """Append each sequence's newest token to its row: what follows it, in their order."""
    newest = np.array([sequence.history[-1] for sequence in sequences])
    needs = [sequence.sampler.needs for sequence in sequences]
    if not whole and max(needs) < decoder.top:
        top = cast(LargestDecoder[AnyRow], decoder).step_largest(rows, newest)
        largest = [TopLogits(*row) for row in zip(*top, strict=True)]
        if all(map(TopLogits.settles, largest, needs)):
            return largest
        for row in rows:
            decoder.truncate(row, row.length - 1)
    return list(decoder.step(rows, newest))


def _slide(decoder: Decoder[AnyRow], row: AnyRow, sequence: Continuation) -> Logits:
    """Drop the older half of what a full row holds and compute the rest again.

    GPT-2's positions are absolute: what stays moves to other positions, so its cache is void.
    """
    decoder.truncate(row, 0)
    return decoder.prefill(row, sequence.history[-kept_by_slide(decoder.n_positions) :])


def kept_by_slide(n_positions: int) -> int:
    """How many of the newest tokens stay where a sequence slides past the last position."""
    return (n_positions + 1) // 2


def _is_full(decoder: Decoder[AnyRow], row: AnyRow) -> bool:
    return row.length == decoder.n_positions
