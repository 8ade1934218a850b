"""Beam search for one prompt: logits of the running hypotheses in, the next hypotheses out.

What is kept, when a hypothesis ends and when the search does is transformers 4.57's `_beam_search`,
beam sampling included. Groups make it diverse beam search (Vijayakumar et al., 1610.02424), phrases
that must come constrained beam search (Hokamp & Liu, 1704.07138; Post & Vilar, 1804.06609).

Knows no model, no rows and no text: `runtime.beams` runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.samplers.beam.allocation import allocate
from gpt2onnx.samplers.beam.forced_words import Phrases
from gpt2onnx.samplers.beam.hypotheses import Ending, Finished, FinishedBeams, Hypothesis
from gpt2onnx.samplers.beam.scores import BeamScores
from gpt2onnx.samplers.candidates import Candidates, FloatArray, IntArray
from gpt2onnx.samplers.draw import generator
from gpt2onnx.samplers.logprobs import log_softmax
from gpt2onnx.samplers.params import GenerationParams
from gpt2onnx.samplers.selection import drawn, largest

# Told a hypothesis' new tokens [new]: whether the last one ends it.
Stops = Callable[[IntArray], bool]


@dataclass(eq=False)
class Branch:
    """A candidate of one step: a running hypothesis with one token more."""

    hypothesis: Hypothesis
    ending: Ending | None
    fate: Literal["kept", "finished", "pruned"] = "pruned"

    @property
    def token(self) -> int:
        return int(self.hypothesis.tokens[-1])

    @property
    def parent(self) -> int:
        """The number of the running hypothesis that it continues."""
        return int(self.hypothesis.beams[-1])


class BeamSearch:
    """The hypotheses of one prompt [n], in one group or several.

    `index` is what prefix_allowed_tokens_fn is told. No hypothesis gets more than `room` new
    tokens, whatever the parameters say. Raises ParameterError for parameters that can't hold for
    such a prompt.
    """

    def __init__(
        self,
        params: GenerationParams,
        prompt: IntArray,
        index: int,
        room: int,
        stops: Stops = lambda written: False,
    ) -> None:
        self.prompt = prompt
        self.params = params.for_prompt(len(prompt))
        self.limit = min(self.params.max_new_tokens, room)
        self._groups = [
            _Group(self.params, prompt, index, self.limit, stops)
            for _ in range(params.num_beam_groups)
        ]

    @property
    def running(self) -> list[Hypothesis]:
        """Those that the next step needs logits for; none once the search is over."""
        return [hypothesis for group in self._groups for hypothesis in group.running]

    def advance(self, logits: FloatArray, in_time: bool = True) -> list[Branch]:
        """Take the logits [running, vocab] after the running hypotheses, and choose.

        The new running hypotheses are the kept branches, unless this ended their group; without
        `in_time` it ends all. Raises ParameterError where the constraints leave no hypothesis.
        """
        if not logits.max() < np.inf:
            Candidates.of(logits.ravel())  # says what is wrong
        if self.params.largest_token >= logits.shape[1]:
            self.params.check_vocabulary(logits.shape[1])
        branches: list[Branch] = []
        first = 0
        for group in self._groups:
            rows = logits[first : first + len(group.running)]
            if len(rows):
                branches += group.advance(rows, first, _taken(branches), in_time)
            first += len(rows)
        return branches

    def best(self) -> list[Finished]:
        """The num_return_sequences best that ended, best first; fewer where there are no more."""
        finished = [each for group in self._groups for each in group.finished.ranked]
        ranked = sorted(finished, key=lambda each: -each.score)
        return ranked[: self.params.num_return_sequences]


def _taken(branches: Sequence[Branch]) -> IntArray:  # [k]
    """The tokens of the beams so far; one that found its end token has left the beam."""
    stay = (b for b in branches if b.fate != "pruned" and b.ending != "eos")
    return np.array([branch.token for branch in stay], np.int64)


class _Group:
    """A beam of its own. Of the groups before it, it knows the tokens that they took."""

    def __init__(
        self, params: GenerationParams, prompt: IntArray, index: int, limit: int, stops: Stops
    ) -> None:
        self._prompt_length, self._limit = len(prompt), limit
        self._end_tokens, self._stops = params.eos_token_ids, stops
        self._size = params.num_beams // params.num_beam_groups
        # Even if all end tokens of all beams came first, a beam's worth would remain.
        self._width = max(2, 1 + len(self._end_tokens)) * self._size
        self._score = BeamScores(params, len(prompt), index)
        self._rng = generator(params.seed, 0) if params.do_sample else None
        self._phrases = Phrases(params.forced_phrases)
        # A forced end token takes the last place.
        self._room_for_phrases = limit - bool(params.forced_eos_token_ids)
        self._require_room_for_phrases()
        self.running = [Hypothesis.of(prompt, self._phrases.start)]
        self.finished = FinishedBeams(self._size, params, limit)

    def advance(
        self, logits: FloatArray, first: int, taken: IntArray, in_time: bool
    ) -> list[Branch]:
        """As BeamSearch's; the group's running hypotheses are numbered from `first` on."""
        logprobs = log_softmax(logits)
        scores = self._score(self.running, logprobs, taken)
        children = [self._child(flat, scores, logprobs, first) for flat in self._rank(scores)]
        branches = [Branch(child, self._ending(child, in_time)) for child in children]
        self._finish(branches[: self._size])
        self._go_on([branch for branch in branches if not branch.ending])
        if not (self.running or self.finished.ranked):
            raise ParameterError(*_NOTHING_LEFT)
        return branches

    def _rank(self, scores: FloatArray) -> list[int]:  # [running, vocab] -> [n]
        """The continuations to look at, as flat indices, best first."""
        if self._phrases.start:
            return self._rank_with_phrases(scores)
        if self._rng:
            return list(map(int, drawn(scores.ravel(), self._width, self._rng)))
        return list(map(int, largest(scores.ravel(), self._width)))

    def _rank_with_phrases(self, scores: FloatArray) -> list[int]:
        progress = [hypothesis.progress for hypothesis in self.running]
        ends = [token for token in self._end_tokens if token < scores.shape[1]]
        for row, each in zip(scores, progress, strict=True):
            if self._phrases.needed(each):
                row[ends] = -np.inf
        left = max(self._room_for_phrases - self.running[0].length - 1, 0)
        return allocate(scores, progress, self._phrases, self._width, left)

    def _child(self, flat: int, scores: FloatArray, logprobs: FloatArray, first: int) -> Hypothesis:
        parent, token = divmod(flat, scores.shape[1])
        before: Hypothesis = self.running[parent]
        return before.continued(
            token,
            score=float(scores[parent, token]),
            logprob=float(logprobs[parent, token]),
            beam=first + parent,
            progress=self._phrases.advance(before.progress, token),
        )

    def _ending(self, child: Hypothesis, in_time: bool) -> Ending | None:
        if child.tokens[-1] in self._end_tokens:
            return "eos"
        if self._stops(child.tokens[self._prompt_length :]):
            return "stop"
        if child.length == self._limit:
            return "limit"
        return None if in_time else "time"

    def _finish(self, best: Sequence[Branch]) -> None:
        """Of the best branches, as many as there are beams, those that end are finished."""
        for branch in best:
            if branch.ending and not self._phrases.needed(branch.hypothesis.progress):
                self.finished.add(branch.hypothesis, branch.ending)
                branch.fate = "finished"

    def _go_on(self, going: Sequence[Branch]) -> None:
        """Keep the first ones, or of drawn ones the best."""
        kept = going if self._rng else going[: self._size]
        kept = sorted(kept, key=lambda branch: -branch.hypothesis.score)[: self._size]
        for branch in kept:
            branch.fate = "kept"
        self.running = [branch.hypothesis for branch in kept]
        if self.running and self.finished.are_final(self.running[0]):
            self.running = []

    def _require_room_for_phrases(self) -> None:
        needed = self._phrases.needed(self._phrases.start)
        if needed > self._room_for_phrases:
            raise ParameterError(
                Given("force_words_ids"),
                f" takes {needed} tokens, and there is room for {self._room_for_phrases}: raise ",
                *(Given("max_new_tokens"), ", or shorten words or prompt"),
            )


_NOTHING_LEFT = (
    "the constraints leave no token to any beam: expected at least one that ",
    *(Given("suppress_tokens"), ", ", Given("bad_words_ids"), ", ", Given("no_repeat_ngram_size")),
    *(", ", Given("prefix_allowed_tokens_fn"), ", ", Given("force_words_ids")),
    " and the end tokens' rules all allow; relax one of them",
)
