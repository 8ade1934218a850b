"""One sequence's sampler: logits in, the chain of penalties and warpers, a draw, one token out.

Knows nothing of models, rows or text.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.samplers.candidates import Candidates, FloatArray, IntArray
from gpt2onnx.samplers.chain.steps import (
    compose_penalties,
    compose_warpers,
    given,
    largest_needed,
    penalty_steps,
    warper_steps,
)
from gpt2onnx.samplers.draw import categorical, copied, greedy, ranked
from gpt2onnx.samplers.logprobs import token_logprob
from gpt2onnx.samplers.mirostat import Mirostat
from gpt2onnx.samplers.params import GenerationParams
from gpt2onnx.samplers.penalties import Penalty
from gpt2onnx.samplers.top_logits import ALL, TopLogits


class Choice(NamedTuple):
    """A token, and how probable it was: to the model, and in the draw."""

    token: int
    logprob: float  # the model's own: before penalties and warpers
    processed_logprob: float  # after them, among the candidates
    candidates: Candidates  # that it was chosen from: what penalties and warpers left


class Sampler:
    """Chooses the tokens of one sequence.

    `history` is prompt and generated ids, int64 `[n]`; `prompt_length` tells where the generated
    ones start, and `sequence_index` is what `prefix_allowed_tokens_fn` is told. `rng` belongs to
    this sequence alone: a draw takes one number, XTC another, and greedy decoding none. `params`,
    the attribute, are those of `for_prompt`: lengths in new tokens. Raises ParameterError for
    parameters that can't hold for such a prompt. `constraint` is what follows all penalties: it
    stands for the parameters regex, json_schema, grammar and choices, which need a tokenizer.

    What else there is of state is mirostat's, which `sample` brings forward.

    `needs`, the attribute, is how many of the largest logits settle a choice, or ALL.
    """

    def __init__(
        self,
        params: GenerationParams,
        prompt_length: int,
        sequence_index: int,
        rng: np.random.Generator,
        constraint: Penalty | None = None,
    ) -> None:
        self.params = params.for_prompt(prompt_length)
        _check_constraint(self.params, constraint)
        self._place, self._constraint = (prompt_length, sequence_index), constraint
        self._largest_token = self.params.largest_token
        steps = penalty_steps(self.params, prompt_length, sequence_index)
        penalties = [*steps, constraint] if constraint else [*steps]
        self._penalize = compose_penalties(penalties)
        self.needs = ALL if penalties else largest_needed(self.params)
        self._mirostat = _mirostat(self.params)
        self._warp = compose_warpers(warper_steps(self.params, rng, self._mirostat))
        self._rng = rng

    def fork(self) -> Sampler:
        """A sampler that stands where this one does, and goes its own way from here.

        The constraint, a function of the history, is the same one. Without a draw nothing ever
        changes, so there the sampler is its own fork.
        """
        if not self.params.do_sample:
            return self
        fork = Sampler(self.params, *self._place, copied(self._rng), self._constraint)
        if self._mirostat and fork._mirostat:
            fork._mirostat.mu = self._mirostat.mu
        return fork

    def __call__(self, history: IntArray, logits: FloatArray) -> int:  # [n], [vocab]
        """The next token alone."""
        return self.sample(history, logits).token

    def sample(self, history: IntArray, logits: FloatArray) -> Choice:  # [n], [vocab]
        """The next token and its log-probabilities; errors as `candidates`."""
        candidates = self.candidates(history, logits)
        sampled = self.params.do_sample
        token = categorical(candidates, self._rng) if sampled else greedy(candidates)
        if self._mirostat:
            index = np.searchsorted(candidates.ids, token)
            self._mirostat.observe(float(candidates.logits[index]))
        return _choice(token, logits, candidates)

    def sample_top(self, largest: TopLogits) -> Choice:
        """The same choice by a row's largest logits [top] alone, where they settle `needs`."""
        if not self.params.do_sample:
            ties = largest.ids[largest.logits == largest.logits[0]]
            logprob = float(largest.logprobs[0])
            return Choice(int(ties.min()), logprob, logprob, largest.candidates())
        candidates = self._warp(largest.candidates())
        token = categorical(candidates, self._rng)
        logprob = float(largest.logprobs[largest.ids == token][0])
        index = int(np.searchsorted(candidates.ids, token))
        return Choice(token, logprob, token_logprob(candidates.logits, index), candidates)

    def alternative(self, history: IntArray, logits: FloatArray, rank: int) -> Choice:
        """The (rank+1)-th most probable token, after penalties, before warpers.

        It takes no random number. Raises ParameterError where there are no more than `rank`.
        """
        candidates = self._possible(history, logits)
        if (count := len(candidates.ids)) <= rank:
            raise ParameterError(
                Given("num_return_sequences", self.params.num_return_sequences),
                *(" with ", Given("return_alternatives", True)),
                *(f": only {count} tokens may come first; lower ", Given("num_return_sequences")),
            )
        return _choice(ranked(candidates, rank), logits, candidates)

    def candidates(self, history: IntArray, logits: FloatArray) -> Candidates:
        """What penalties and warpers leave of `[vocab]`, with the logits that they give it.

        XTC rolls its dice anew at each call. Raises ParameterError where the constraints leave
        none, and where a parameter names a token that the vocabulary doesn't have.
        """
        return self._warp(self._possible(history, logits))

    def _possible(self, history: IntArray, logits: FloatArray) -> Candidates:  # [n], [vocab]
        """What penalties leave."""
        if self._largest_token >= len(logits):
            self.params.check_vocabulary(len(logits))
        return Candidates.of(self._penalize(history, logits))


def _choice(token: int, logits: FloatArray, candidates: Candidates) -> Choice:  # logits [vocab]
    """One of the candidates that were made of logits, and its log-probabilities among both."""
    logprob = token_logprob(logits, token)
    if candidates.logits is logits:  # nothing was changed
        return Choice(token, logprob, logprob, candidates)
    index = int(np.searchsorted(candidates.ids, token))
    return Choice(token, logprob, token_logprob(candidates.logits, index), candidates)


def _check_constraint(params: GenerationParams, constraint: Penalty | None) -> None:
    """No constraint is passed over. Raises ParameterError."""
    if params.constraint and not constraint:
        raise ParameterError(
            Given(*params.constraint),
            " needs the model's tokenizer, which this strategy isn't given: leave one of the two "
            "out",
        )


def _mirostat(params: GenerationParams) -> Mirostat | None:
    """The state that mirostat starts with, where it is on."""
    if not params.mirostat_mode:
        return None
    chosen = given(tau=params.mirostat_tau, eta=params.mirostat_eta)
    return Mirostat(params.mirostat_mode, **chosen)
