"""One sequence's sampler: logits in, the chain of penalties and warpers, a draw, one token out.

Knows nothing of models, rows or text.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.samplers.candidates import Candidates, FloatArray, IntArray, as_candidates
from gpt2onnx.samplers.chain.penalized import Penalized
from gpt2onnx.samplers.chain.shortcut import AtHand, Shortcut
from gpt2onnx.samplers.chain.steps import (
    compose_penalties,
    compose_warpers,
    draws_each,
    given,
    penalty_steps,
    warper_steps,
)
from gpt2onnx.samplers.draw import categorical_place, copied, greedy, ranked
from gpt2onnx.samplers.logprobs import token_logprob
from gpt2onnx.samplers.mirostat import Mirostat
from gpt2onnx.samplers.params import GenerationParams
from gpt2onnx.samplers.penalties import Penalty
from gpt2onnx.samplers.top_logits import ALL, TopLogits


class Choice(NamedTuple):
    """A token, and how probable it was: to the model, and in the draw."""

    token: int
    logprob: float  # the model's own: before penalties and warpers
    processed_logprob: float  # after them, among what they left
    left: Candidates | FloatArray  # that it was chosen from: candidates, or a row [vocab]

    @property
    def candidates(self) -> Candidates:
        """What penalties and warpers left."""
        return as_candidates(self.left)


class Sampler:
    """Chooses the tokens of one sequence.

    `history` is prompt and generated ids, int64 `[n]`; `prompt_length` tells where the generated
    ones start, and `sequence_index` is what `prefix_allowed_tokens_fn` is told. `rng` belongs to
    this sequence alone: a draw takes one number, XTC another, and greedy decoding none. `params`,
    the attribute, are those of `for_prompt`: lengths in new tokens. Raises ParameterError for
    parameters that can't hold for such a prompt. `constraint` is what follows all penalties: it
    stands for the parameters regex, json_schema, grammar and choices, which need a tokenizer.

    What else there is of state is mirostat's, which `sample` brings forward.

    `needs`, the attribute, is how many of the largest logits settle a choice, or ALL;
    `temperature` the one that TopLogits.sums are best of.
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
        self._penalties = compose_penalties(penalties)
        self._mirostat = _mirostat(self.params)
        warpers = list(warper_steps(self.params, rng, self._mirostat))
        self._warp, self._shortcut = compose_warpers(warpers), Shortcut(warpers)
        self.temperature = self._shortcut.temperature
        # Every token is a candidate, whatever came before.
        self._takes_all = self._shortcut.keeps_all and not penalties
        needs = self._shortcut.needs if self.params.do_sample else 1
        self.needs = ALL if penalties else needs
        # The row's largest logit, whatever came before.
        self.takes_largest = not self.params.do_sample and not penalties
        self._rng = rng

    def skip(self, tokens: int) -> None:
        """Go on behind tokens that were given: chance stands where choosing them had left it."""
        if self.params.do_sample:
            self._rng.random(tokens * draws_each(self.params))

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

    def sample(
        self, history: IntArray, logits: FloatArray, top: TopLogits | None = None
    ) -> Choice:  # [n], [vocab]
        """The next token and its log-probabilities; errors as `candidates`.

        With `top`, the largest of the logits, the same choice costs less. Where they settle what
        it `needs`, there may be no `logits`.
        """
        if top is not None and not top.is_finite:
            top = None  # the whole row says what is wrong
        penalized = self._penalized(history, logits)
        choose = self._drawn if self.params.do_sample else self._greedy
        return choose(logits, penalized, top)

    def _greedy(
        self, logits: FloatArray, penalized: Penalized, top: TopLogits | None
    ) -> Choice:  # [vocab], or [0] where penalties changed nothing
        changed = penalized.logits
        if not len(changed) and top:
            best = top.best()
            return Choice(greedy(best), logprob := float(top.logprobs[0]), logprob, best)
        token = greedy(changed)
        if not np.isfinite(changed[token]):
            Candidates.of(changed)  # says what is wrong
        logprob = top.logprob(token, logits) if top else token_logprob(logits, token)
        if changed is logits:
            return Choice(token, logprob, logprob, changed)
        at_hand = AtHand.of(top, logits, penalized) if top else None
        if top and at_hand and (total := at_hand.total(self.temperature)):
            processed = float(changed[token] - top.logits[0]) - math.log(total)
        else:
            processed = token_logprob(changed, token)
        return Choice(token, logprob, processed, changed)

    def _drawn(
        self, logits: FloatArray, penalized: Penalized, top: TopLogits | None
    ) -> Choice:  # [vocab], or [0] where penalties changed nothing
        candidates = self._shortcut.candidates(top, logits, penalized) if top else None
        if candidates is None:
            candidates = self._warp(Candidates.of(penalized.logits))
        sums = None
        if top and self._takes_all and len(candidates.ids) == len(logits):  # nothing is ruled out
            sums = top.sums
        place = categorical_place(candidates, self._rng, sums)
        token = int(candidates.ids[place])
        if self._mirostat:
            self._mirostat.observe(float(candidates.logits[place]))
        logprob = top.logprob(token, logits) if top else token_logprob(logits, token)
        if self._takes_all and self.temperature == 1:
            return Choice(token, logprob, logprob, candidates)
        if sums is not None:
            processed = token_logprob(candidates.logits, place, sums)
        else:
            processed = candidates.logprob(place)
        return Choice(token, logprob, processed, candidates)

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
        token = ranked(candidates, rank)
        place = int(np.searchsorted(candidates.ids, token))
        processed = candidates.logprob(place)
        return Choice(token, token_logprob(logits, token), processed, candidates)

    def candidates(self, history: IntArray, logits: FloatArray) -> Candidates:
        """What penalties and warpers leave of `[vocab]`, with the logits that they give it.

        XTC rolls its dice anew at each call. Raises ParameterError where the constraints leave
        none, and where a parameter names a token that the vocabulary doesn't have.
        """
        return self._warp(self._possible(history, logits))

    def _possible(self, history: IntArray, logits: FloatArray) -> Candidates:  # [n], [vocab]
        """What penalties leave."""
        return Candidates.of(self._penalized(history, logits).logits)

    def _penalized(self, history: IntArray, logits: FloatArray) -> Penalized:  # [n], [vocab]
        if self._largest_token >= len(logits) > 0:
            self.params.check_vocabulary(len(logits))
        return self._penalties.on(history, logits)


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
