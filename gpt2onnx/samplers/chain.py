"""One sequence's chain: logits in, penalties, warpers, a draw, one token out.

The order is that of transformers 4.57's `_get_logits_processor`. Knows nothing of models, rows or
text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from gpt2onnx.samplers import penalties, warpers
from gpt2onnx.samplers.candidates import Candidates, FloatArray, IntArray
from gpt2onnx.samplers.draw import categorical, greedy
from gpt2onnx.samplers.params import DEFAULT_TOP_K, GenerationParams
from gpt2onnx.samplers.penalties import Penalty
from gpt2onnx.samplers.warpers import Warper


class Sampler:
    """Chooses the tokens of one sequence.

    `history` is prompt and generated ids, int64 `[n]`; `prompt_length` tells where the generated
    ones start, and `sequence_index` is what `prefix_allowed_tokens_fn` is told. `rng` belongs to
    this sequence alone; greedy decoding never asks it. `params`, the attribute, are those of
    `for_prompt`: lengths in new tokens. Raises ParameterError for parameters that can't hold for
    such a prompt.
    """

    def __init__(
        self,
        params: GenerationParams,
        prompt_length: int,
        sequence_index: int,
        rng: np.random.Generator,
    ) -> None:
        self.params = params.for_prompt(prompt_length)
        self._largest_token = self.params.largest_token
        self._penalize = compose_penalties(
            penalty_steps(self.params, prompt_length, sequence_index)
        )
        self._warp = compose_warpers(warper_steps(self.params))
        self._rng = rng

    def __call__(self, history: IntArray, logits: FloatArray) -> int:  # [n], [vocab]
        """The next token."""
        candidates = self.candidates(history, logits)
        return categorical(candidates, self._rng) if self.params.do_sample else greedy(candidates)

    def candidates(self, history: IntArray, logits: FloatArray) -> Candidates:
        """What penalties and warpers leave of `[vocab]`, with the logits that they give it.

        Raises ParameterError where the constraints leave none, and where a parameter names a token
        that the vocabulary doesn't have.
        """
        if self._largest_token >= len(logits):
            self.params.check_vocabulary(len(logits))
        return self._warp(Candidates.of(self._penalize(history, logits)))


def penalty_steps(
    params: GenerationParams, prompt_length: int, sequence_index: int
) -> Iterator[Penalty]:
    """The penalties that the parameters turn on, in order. `params` are those of `for_prompt`.

    logit_bias comes first, where transformers has sequence_bias, whose case of single tokens it is.
    Frequency and presence follow the repetition penalty, as in vLLM, and precede all constraints:
    what is forbidden stays forbidden.
    """
    if params.logit_bias:
        values = np.array(tuple(params.logit_bias.values()), np.float32)
        yield partial(penalties.logit_bias, ids=_ids(params.logit_bias), values=values)
    if params.repetition_penalty not in (None, 1.0):
        yield partial(penalties.repetition_penalty, penalty=params.repetition_penalty)
    if params.frequency_penalty or params.presence_penalty:
        yield partial(
            penalties.frequency_presence_penalty,
            prompt_length=prompt_length,
            frequency=params.frequency_penalty or 0.0,
            presence=params.presence_penalty or 0.0,
        )
    if params.no_repeat_ngram_size:
        yield partial(penalties.no_repeat_ngram, size=params.no_repeat_ngram_size)
    yield from _constraint_steps(params, prompt_length, sequence_index)


def _constraint_steps(
    params: GenerationParams, prompt_length: int, sequence_index: int
) -> Iterator[Penalty]:
    """What may not, or what alone may, follow: from bad_words_ids to begin_suppress_tokens."""
    if params.bad_words_ids:
        yield partial(penalties.bad_words, words=penalties.by_length(params.bad_words_ids))
    if params.min_new_tokens:
        yield partial(
            penalties.min_length,
            length=prompt_length + params.min_new_tokens,
            eos_token_ids=_ids(params.eos_token_ids),
        )
    if params.prefix_allowed_tokens_fn:
        yield partial(
            penalties.prefix_allowed_tokens,
            allowed_fn=params.prefix_allowed_tokens_fn,
            sequence_index=sequence_index,
        )
    if params.forced_bos_token_id is not None:
        yield partial(penalties.force_at, ids=_ids([params.forced_bos_token_id]), length=1)
    if params.forced_eos_token_ids:
        last = prompt_length + params.max_new_tokens - 1
        yield partial(penalties.force_at, ids=_ids(params.forced_eos_token_ids), length=last)
    if params.suppress_tokens:
        yield partial(penalties.suppress, ids=_ids(params.suppress_tokens))
    if params.begin_suppress_tokens:
        # The forced first token, where there is one, isn't the beginning.
        begin = prompt_length + (params.forced_bos_token_id is not None)
        yield partial(penalties.suppress_at, ids=_ids(params.begin_suppress_tokens), length=begin)


def warper_steps(params: GenerationParams) -> Iterator[Warper]:
    """The warpers that the parameters turn on, in order; none unless they sample."""
    if not params.do_sample:
        return
    k = DEFAULT_TOP_K if params.top_k is None else params.top_k
    if params.temperature not in (None, 1.0):
        yield partial(warpers.temperature, t=params.temperature)
    if k:
        yield partial(warpers.top_k, k=k)
    if params.top_p not in (None, 1.0):
        yield partial(warpers.top_p, p=params.top_p)
    if params.min_p:
        yield partial(warpers.min_p, p=params.min_p)
    if params.typical_p not in (None, 1.0):
        yield partial(warpers.typical_p, p=params.typical_p)
    if params.epsilon_cutoff:
        yield partial(warpers.epsilon_cutoff, epsilon=params.epsilon_cutoff)
    if params.eta_cutoff:
        yield partial(warpers.eta_cutoff, epsilon=params.eta_cutoff)


def compose_penalties(steps: Iterable[Penalty]) -> Penalty:
    """One penalty that applies all in turn."""
    chain = tuple(steps)

    def penalize(history: IntArray, logits: FloatArray) -> FloatArray:  # [n], [vocab] -> [vocab]
        for step in chain:
            logits = step(history, logits)
        return logits

    return penalize


def compose_warpers(steps: Iterable[Warper]) -> Warper:
    """One warper that applies all in turn."""
    chain = tuple(steps)

    def warp(candidates: Candidates) -> Candidates:  # [n] -> [kept]
        for step in chain:
            candidates = step(candidates)
        return candidates

    return warp


def _ids(tokens: Iterable[int]) -> IntArray:  # [k]
    return np.array(tuple(tokens), np.int64)
