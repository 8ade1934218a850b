"""Scores of all continuations of a group of beams: [running, vocab].

Log-probabilities, less what diversity takes, through the penalties and warpers of `chain`, and
added to what each hypothesis has already. Knows nothing of what is chosen by them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2onnx.samplers.beam.hypotheses import Hypothesis
from gpt2onnx.samplers.candidates import Candidates, FloatArray, IntArray
from gpt2onnx.samplers.chain.steps import compose_penalties, penalty_steps, warper_steps
from gpt2onnx.samplers.params import GenerationParams
from gpt2onnx.samplers.selection import largest
from gpt2onnx.samplers.warpers import Warper


class BeamScores:
    """For the hypotheses of a prompt; `index` is what prefix_allowed_tokens_fn is told."""

    def __init__(self, params: GenerationParams, prompt_length: int, index: int) -> None:
        self._penalize = compose_penalties(penalty_steps(params, prompt_length, index))
        self._warpers = tuple(warper_steps(params))
        # transformers' min_tokens_to_keep: one of them isn't an end token.
        self._min_tokens = max(2, 1 + len(params.eos_token_ids))
        self._diversity_penalty = params.diversity_penalty or 0.0

    def __call__(
        self, running: Sequence[Hypothesis], logprobs: FloatArray, taken: IntArray
    ) -> FloatArray:  # [running, vocab], [k] -> [running, vocab]
        """The summed score of each hypothesis with each token; -inf where one is impossible.

        `taken` are the tokens that earlier groups took at this step, one a beam.
        """
        scores = np.empty_like(logprobs)
        for score, hypothesis, row in zip(
            scores, running, self._diverse(logprobs, taken), strict=True
        ):
            processed = self._warp(self._penalize(hypothesis.tokens, row))
            np.add(processed, hypothesis.score, out=score)
        return scores

    def _diverse(self, logprobs: FloatArray, taken: IntArray) -> FloatArray:
        """Less `diversity_penalty` for each time that an earlier group took the token.

        This is the paper's Hamming diversity. transformers takes it off before the repetition
        penalty, and so does this.
        """
        if not len(taken):
            return logprobs
        ids, counts = np.unique(taken, return_counts=True)
        diverse = logprobs.copy()
        diverse[:, ids] -= (self._diversity_penalty * counts).astype(np.float32)
        return diverse

    def _warp(self, row: FloatArray) -> FloatArray:  # [vocab] -> [vocab]
        if not self._warpers or row.max() == -np.inf:
            return row
        candidates = Candidates.of(row)
        for warper in self._warpers:
            candidates = _at_least(self._min_tokens, warper, candidates)
        warped = np.full_like(row, -np.inf)
        warped[candidates.ids] = candidates.logits
        return warped


def _at_least(count: int, warper: Warper, candidates: Candidates) -> Candidates:
    """What a warper keeps; where that is fewer than `count`, the best of the others join them."""
    kept = warper(candidates)
    missing = min(count, len(candidates.ids)) - len(kept.ids)
    if missing <= 0:
        return kept
    keep = np.isin(candidates.ids, kept.ids)
    others = np.flatnonzero(~keep)
    keep[others[largest(candidates.logits[others], missing)]] = True
    return candidates.where(keep)
