"""One sequence's sampler: logits in, the chain of penalties and warpers, a draw, one token out.

Knows nothing of models, rows or text.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.samplers.candidates import Candidates, FloatArray, IntArray, Left
from gpt2onnx.samplers.chain.at_hand import AtHand
from gpt2onnx.samplers.chain.draws import Choice, Draw
from gpt2onnx.samplers.chain.penalized import Penalized
from gpt2onnx.samplers.chain.shortcut import Shortcut
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
from gpt2onnx.samplers.spread import Spread
from gpt2onnx.samplers.top_logits import ALL, TopLogits


class Sampler:
    """Chooses the tokens of one sequence.

    `history` is prompt and generated ids, int64 `[n]`; `prompt_length` tells where the generated
    ones start, and `sequence_index` is what `prefix_allowed_tokens_fn` is told. `rng` belongs to
    this sequence alone: a draw takes one number, XTC another; greedy decoding takes none, and may
    do without `rng`. `params`, the attribute, are those of `for_prompt`: lengths in new tokens.
    Raises ParameterError for parameters that can't hold for such a prompt. `constraint` is what
    follows all penalties: it stands for the parameters regex, json_schema, grammar and choices,
    which need a tokenizer.

    What else there is of state is mirostat's, which `sample` brings forward.

    `needs`, the attribute, is how many of the largest logits settle a choice, or ALL;
    `sums` is what TopLogits.sums are best of: a temperature, and the share of a row left outside.
    """

    def __init__(
        self,
        params: GenerationParams,
        prompt_length: int,
        sequence_index: int,
        rng: np.random.Generator | None,
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
        self.sums = self.temperature, 0.0 if penalties else self._shortcut.outside
        # Every token is a candidate, whatever came before.
        self._takes_all = self._shortcut.keeps_all and not penalties
        self._is_models_own = self._takes_all and self.temperature == 1
        needs = self._shortcut.needs if self.params.do_sample else 1
        self.needs = ALL if penalties else needs
        # The row's largest logit, whatever came before.
        self.takes_largest = not self.params.do_sample and not penalties
        self._own_rng = rng

    @property
    def _rng(self) -> np.random.Generator:
        """The sequence's own, where it draws."""
        assert self._own_rng is not None
        return self._own_rng

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
        prepared = self.prepare(history, logits, top)
        return prepared.choice if isinstance(prepared, Draw) else prepared

    def prepare(
        self, history: IntArray, logits: FloatArray, top: TopLogits | None = None
    ) -> Choice | Draw:  # [n], [vocab]
        """The same, but for a draw that may be made together with others."""
        if top is not None and not top.is_finite:
            top = None  # the whole row says what is wrong
        penalized = self._penalized(history, logits)
        if not self.params.do_sample:
            return self._greedy(penalized, top)
        narrowed = self._shortcut.narrowed(top, penalized) if top else None
        if narrowed is None:
            return self._drawn(penalized, top)
        chosen = partial(self._chosen, penalized, top)
        return Draw(narrowed, self._shortcut.rest, self._shortcut.alike, self._rng, chosen)

    def _greedy(self, penalized: Penalized, top: TopLogits | None) -> Choice:
        choice = self._greedy_at_hand(penalized, top) if top else None
        if choice:
            return choice
        given, logits = penalized.given, penalized.logits
        token = greedy(logits)
        if not np.isfinite(logits[token]):
            Candidates.of(logits)  # says what is wrong
        logprob = processed = _logprob(token, penalized, top)
        if logits is not given:
            processed = token_logprob(logits, token)
        return Choice(token, logprob, processed, partial(Candidates.of, logits))

    def _greedy_at_hand(self, penalized: Penalized, top: TopLogits) -> Choice | None:
        """The choice where the largest logits settle it."""
        if penalized.unchanged:
            if not top.logits[0] > top.logits[-1]:
                return None
            best, logprob = top.best(), float(top.logprobs[0])
            left = partial(Candidates.of, penalized.given) if len(penalized.given) else best.itself
            return Choice(greedy(best), logprob, logprob, left)
        at_hand = AtHand.of(top, penalized)
        place = at_hand.best if at_hand else None
        if at_hand is None or place is None:
            return None
        token, logit = int(at_hand.candidates.ids[place]), at_hand.candidates.logits[place]
        total = at_hand.total(self.temperature)
        if total:
            processed = float(logit - top.logits[0]) - math.log(total)
        else:
            processed = token_logprob(penalized.logits, token)
        logprob = top.logprob(token, penalized.given)
        return Choice(token, logprob, processed, lambda: Candidates.of(penalized.logits))

    def _drawn(self, penalized: Penalized, top: TopLogits | None) -> Choice:
        """The choice where more than the largest logits has to be looked at."""
        if spread := self._spread(penalized, top):
            return self._drawn_from(spread, penalized, top)
        candidates = self._warp(Candidates.of(penalized.logits))
        place = categorical_place(candidates, self._rng)
        if self._mirostat:
            self._mirostat.observe(float(candidates.logits[place]))
        token, processed = int(candidates.ids[place]), candidates.logprob(place)
        return self._chosen(penalized, top, token, processed, candidates.itself)

    def _chosen(
        self, penalized: Penalized, top: TopLogits | None, token: int, processed: float, left: Left
    ) -> Choice:
        logprob = _logprob(token, penalized, top)
        return Choice(token, logprob, logprob if self._is_models_own else processed, left)

    def _spread(self, penalized: Penalized, top: TopLogits | None) -> Spread | None:
        """What is drawn from without narrowing the row, where the chain and what is known allow."""
        if self._takes_all:
            return self._shortcut.all(top, penalized) if top else None
        return self._shortcut.nucleus(top, penalized)

    def _drawn_from(self, spread: Spread, penalized: Penalized, top: TopLogits | None) -> Choice:
        token = categorical_place(spread, self._rng)
        logprob = _logprob(token, penalized, top)
        processed = logprob if self._is_models_own else spread.logprob(token)
        return Choice(
            token, logprob, processed, lambda: self._warp(Candidates.of(penalized.logits))
        )

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
        return Choice(token, token_logprob(logits, token), processed, candidates.itself)

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


def _logprob(token: int, penalized: Penalized, top: TopLogits | None) -> float:
    """A token's log-probability in the model's own distribution."""
    if top:
        return top.logprob(token, penalized.given)
    return token_logprob(penalized.given, token)


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
