"""The loop of beam search: a row for each running hypothesis, all prompts' in every step.

A prompt is prefilled once. After a choice the row of a hypothesis passes to its first child; rows
without one take the other children in, and only from where the two texts part. So an unchanged beam
costs nothing, and one that changes copies a few tokens of the cache.

Knows the decoder's seam and the search; knows no graph and no text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Generic

import numpy as np

from gpt2onnx.flags import refusal
from gpt2onnx.runtime.decoder.protocol import AnyRow, Decoder, Ids, Logits
from gpt2onnx.samplers import BeamSearch, Branch, Hypothesis

# Told of each step of a prompt: the prompt's number, the logits [running, vocab] and what came of
# them, which is all there is to know of a search.
Observer = Callable[[int, Logits, Sequence[Branch]], None]


def check_observer(observe: object) -> None:
    """Raises ParameterError for what is neither an observer nor None."""
    if observe is not None and not callable(observe):
        raise refusal("observe", observe, "a function (prompt_index, logits, branches)")


def run(
    decoder: Decoder[AnyRow],
    searches: Sequence[BeamSearch],
    max_time: float | None = None,
    observe: Observer = lambda index, logits, branches: None,
) -> None:
    """Advance all searches until each is over. `max_time` is in seconds.

    Errors: ParameterError where the constraints leave a prompt no hypothesis.
    """
    deadline = np.inf if max_time is None else time.monotonic() + max_time
    _reserve(decoder, searches)
    beams: list[_Beams[AnyRow]] = []
    try:
        for index, search in enumerate(searches):
            beams.append(_Beams(decoder, search, index))
            beams[-1].prefill()
        live = beams
        while live:
            in_time = time.monotonic() < deadline
            for each in live:
                observe(each.index, each.logits, each.advance(in_time))
            live = [each for each in live if each.search.running]
            _step(decoder, live)
    finally:
        for each in beams:
            each.free()


class _Beams(Generic[AnyRow]):
    """The rows of one prompt's running hypotheses, and the logits [running, vocab] after them."""

    logits: Logits

    def __init__(self, decoder: Decoder[AnyRow], search: BeamSearch, index: int) -> None:
        self.search, self.index = search, index
        self.rows: list[AnyRow] = []
        self._decoder = decoder

    def prefill(self) -> None:
        """Every group of beams begins with the prompt."""
        self.rows.append(self._decoder.new_row())
        logits = self._decoder.prefill(self.rows[0], self.search.prompt)
        for _ in self.search.running[1:]:
            self.rows.append(self._decoder.fork(self.rows[0]))
        self.logits = np.repeat(logits[None], len(self.rows), axis=0)

    def advance(self, in_time: bool) -> list[Branch]:
        """Let the search choose, and give every new running hypothesis a row."""
        before = self.search.running
        branches = self.search.advance(self.logits, in_time)
        self._pass_on(before, [int(after.beams[-1]) for after in self.search.running])
        return branches

    def free(self, keep: int = 0) -> None:
        """Give the rows back, all but the first `keep`."""
        while len(self.rows) > keep:
            self._decoder.free(self.rows.pop())

    def _pass_on(self, before: Sequence[Hypothesis], parents: Sequence[int]) -> None:
        """Give each child of the hypotheses `before`, which had the rows so far, its own row."""
        spare = [beam for beam in range(len(before)) if beam not in parents]
        rows = []
        for place, parent in enumerate(parents):
            if parent not in parents[:place]:
                rows.append(self.rows[parent])
            elif spare:
                beam = spare.pop()
                shared = _common_start(before[parent].tokens, before[beam].tokens)
                self._decoder.copy(self.rows[parent], self.rows[beam], shared)
                rows.append(self.rows[beam])
            else:
                self.rows.append(self._decoder.fork(self.rows[parent]))
                rows.append(self.rows[-1])
        self.rows = rows + [self.rows[beam] for beam in spare]
        self.free(keep=len(parents))


def _step(decoder: Decoder[AnyRow], live: Sequence[_Beams[AnyRow]]) -> None:
    """Append the newest token of every running hypothesis to its row."""
    if not live:
        return
    rows = [row for each in live for row in each.rows]
    newest = [each.tokens[-1] for beams in live for each in beams.search.running]
    logits = decoder.step(rows, np.array(newest))
    ends = np.cumsum([len(each.rows) for each in live])
    for each, own in zip(live, np.split(logits, ends[:-1]), strict=True):
        each.logits = own


def _reserve(decoder: Decoder[AnyRow], searches: Sequence[BeamSearch]) -> None:
    """Room for all rows at once; the newest token is never in one."""
    if searches:
        longest = max(len(search.prompt) + search.limit - 1 for search in searches)
        decoder.reserve(sum(search.params.num_beams for search in searches), longest)


def _common_start(a: Ids, b: Ids) -> int:  # [n], [n]
    """How many tokens two hypotheses of one length begin with alike."""
    return int(np.argmin(np.append(a == b, False)))
