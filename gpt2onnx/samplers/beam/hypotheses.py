"""Hypotheses of a beam search: the running ones, and the best finished ones.

Knows tokens, scores and lengths; knows nothing of logits, of how tokens are chosen, or of text.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.samplers.beam.forced_words import Progress
from gpt2onnx.samplers.candidates import FloatArray, IntArray
from gpt2onnx.samplers.params import GenerationParams

Number = TypeVar("Number", bound=np.number[Any])

# eos: an end token; stop: the caller ended it; limit: as long as may be; time: out of time.
Ending = Literal["eos", "stop", "limit", "time"]


class Hypothesis(NamedTuple):
    """A sequence, and how it came about."""

    tokens: IntArray  # [n], prompt and new ones
    score: float  # summed log-probabilities, as penalties and warpers left them
    logprobs: FloatArray  # [new], the model's own
    beams: IntArray  # [new], which running hypothesis each step continued: HF's beam_indices
    progress: Progress  # through force_words_ids

    @classmethod
    def of(cls, prompt: IntArray, progress: Progress) -> Hypothesis:
        """A prompt [n] with nothing new."""
        return cls(prompt, 0.0, np.empty(0, np.float32), np.empty(0, np.int64), progress)

    @property
    def length(self) -> int:
        """The new tokens' count."""
        return len(self.beams)

    def continued(
        self, token: int, score: float, logprob: float, beam: int, progress: Progress
    ) -> Hypothesis:
        """With one token more, chosen after this, the running hypothesis number `beam`."""
        return Hypothesis(
            _append(self.tokens, token),
            score,
            _append(self.logprobs, logprob),
            _append(self.beams, beam),
            progress,
        )


class Finished(NamedTuple):
    """A hypothesis that ended; `score` is its own divided by length ** length_penalty."""

    hypothesis: Hypothesis
    score: float
    ending: Ending


class FinishedBeams:
    """The best `size` of the hypotheses that ended, best first."""

    def __init__(self, size: int, params: GenerationParams, limit: int) -> None:
        """`limit`: no hypothesis gets more new tokens than this."""
        self.ranked: list[Finished] = []
        self._size, self._limit = size, limit
        self._early_stopping = params.early_stopping
        self._length_penalty = 1.0 if params.length_penalty is None else params.length_penalty

    def add(self, hypothesis: Hypothesis, ending: Ending) -> None:
        score = self._normalized(hypothesis.score, hypothesis.length)
        ranked = [*self.ranked, Finished(hypothesis, score, ending)]
        self.ranked = sorted(ranked, key=lambda each: -each.score)[: self._size]

    def are_final(self, best: Hypothesis) -> bool:
        """Whether to stop, `best` being the best running hypothesis, as `early_stopping` says.

        Never before there are `size` of them. Then True stops at once; False when `best` couldn't
        take a place if it ended now, which a longer one may; "never" when none ever could.
        """
        if len(self.ranked) < self._size:
            return False
        if self._early_stopping is True:
            return True
        # A score is negative: the larger the divisor, the better.
        longest = self._early_stopping == "never" and self._length_penalty > 0
        length = self._limit if longest else best.length
        return self._normalized(best.score, length) <= self.ranked[-1].score

    def _normalized(self, score: float, length: int) -> float:
        return float(score / length**self._length_penalty)


def _append(array: NDArray[Number], value: float) -> NDArray[Number]:  # [n] -> [n + 1]
    longer = np.empty(len(array) + 1, array.dtype)
    longer[:-1], longer[-1] = array, value
    longer.flags.writeable = False  # an observer is told it
    return longer
