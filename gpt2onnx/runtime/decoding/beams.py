"""Beam search on rows: one for each running hypothesis.

A prompt is prefilled once. After a choice the row of a hypothesis passes to its first child; rows
without one take the other children in, and only from where the two texts part. So an unchanged beam
costs nothing, and one that changes copies a few tokens of the cache.

Knows the decoder's seam and the search; knows no graph and no text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Never

import numpy as np

from gpt2onnx.flags import refusal
from gpt2onnx.runtime.decoder.protocol import Decoder, Ids, Logits, Read, Result
from gpt2onnx.samplers import BeamSearch, Branch, Hypothesis

# Told of each step of a prompt: the prompt's number, the logits [running, vocab] and what came of
# them, which is all there is to know of a search.
Observer = Callable[[int, Logits, Sequence[Branch]], None]


def check_observer(observe: object) -> None:
    """Raises ParameterError for what is neither an observer nor None."""
    if observe is not None and not callable(observe):
        raise refusal("observe", observe, "a function (prompt_index, logits, branches)")


class BeamTask:
    """One prompt's search: a row for each running hypothesis, and the logits after them."""

    def __init__(
        self,
        decoder: Decoder[Any],
        search: BeamSearch,
        index: int,
        observe: Observer = lambda index, logits, branches: None,
    ) -> None:
        self.search, self.index = search, index
        self.rows: list[Any] = []
        self.rows_needed = search.params.num_beams
        self.length = len(search.prompt) + search.limit - 1  # the newest token is never in a row
        self._decoder, self._observe = decoder, observe

    @property
    def done(self) -> bool:
        return not self.search.running

    def plan(self) -> list[Read]:
        """The prompt, then the newest token of every running hypothesis."""
        if not self.rows:
            self.rows.append(self._decoder.new_row())
            return [Read(self.rows[0], self.search.prompt, prompt=True)]
        pairs = zip(self.rows, self.search.running, strict=True)
        return [Read(row, hypothesis.tokens[-1:]) for row, hypothesis in pairs]

    def take(self, results: Sequence[Result], in_time: bool) -> list[Never]:
        """Let the search choose, and give every new running hypothesis a row.

        It tells nothing but to the observer: a search's texts are there when it is over.

        Raises ParameterError where the constraints leave the prompt no hypothesis.
        """
        before = self.search.running
        logits = np.concatenate([result.logits for result in results])
        if len(self.rows) < len(before):  # every group of beams begins with the prompt
            self.rows += [self._decoder.fork(self.rows[0]) for _ in before[1:]]
            logits = np.repeat(logits, len(before), axis=0)
        branches = self.search.advance(logits, in_time)
        self._pass_on(before, [int(after.beams[-1]) for after in self.search.running])
        self._observe(self.index, logits, branches)
        return []

    def close(self, keep: int = 0) -> None:
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
        self.close(keep=len(parents))


def _common_start(a: Ids, b: Ids) -> int:  # [n], [n]
    """How many tokens two hypotheses of one length begin with alike."""
    return int(np.argmin(np.append(a == b, False)))
