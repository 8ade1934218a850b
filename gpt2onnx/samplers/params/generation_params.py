"""GenerationParams: the parameters of one generation, validated before anything runs.

Knows nothing of models: what depends on a vocabulary or a prompt is checked by `check_vocabulary`
and `for_prompt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Final

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.samplers.params.generation_config import require_known
from gpt2onnx.samplers.params.relations import as_tuple, check_relations
from gpt2onnx.samplers.params.rules import CONSTRAINTS, Exclusion, Rules
from gpt2onnx.samplers.params.table import PARAMETERS, WARPERS, ParameterTable

DEFAULT_DRY_SEQUENCE_BREAKERS: Final = ("\n", ":", '"', "*")

RULES: Final = Rules(PARAMETERS)
_DEFAULTS: Final = {name: getattr(ParameterTable, name) for name in PARAMETERS}


@dataclass(frozen=True, kw_only=True)
class GenerationParams(ParameterTable):
    """Parameters of one generation. None means not given.

    Lists may be given as anything that holds their members; they are kept as tuples, and a lone
    token id or string of a parameter that takes several as a tuple of one. Raises ParameterError
    for a value out of range, and for one that would have no effect beside the others.
    """

    @classmethod
    def create(cls, given: Mapping[str, Any], defaults: Mapping[str, Any] = {}) -> GenerationParams:
        """The parameters of a call: its own keywords over the model's defaults.

        What is given as None takes the model's default away. Defaults that have no effect beside
        the others, or that a given parameter excludes, are left out; given ones are an error then.
        """
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise ParameterError(Given("parameters", given), ": expected values by their names")
        for name in (*given, *defaults):
            require_known(name)
        own = {n: PARAMETERS[n].check(n, v) for n, v in given.items() if v is not None}
        merged = {**defaults, **dict.fromkeys(given), **own}
        values = {name: value for name, value in merged.items() if value is not None}
        kept = RULES.settled(values, given)
        try:
            params = cls(**kept)
            RULES.check(kept)  # a length that is given as the default is given all the same
        except ParameterError as error:
            raise _naming_origin(error, kept.keys() - given.keys()) from None
        return params

    def __post_init__(self) -> None:
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value is not None or default is not None:
                object.__setattr__(self, name, PARAMETERS[name].check(name, value))
        RULES.check(self.given)
        check_relations(vars(self))

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that aren't at their defaults."""
        return {n: v for n, v in vars(self).items() if v is not None and v != _DEFAULTS[n]}

    def is_on(self, name: str) -> bool:
        """Whether a parameter is given, and isn't turned off."""
        return RULES.is_on(name, vars(self))

    def check_beside(self, exclusion: Exclusion) -> None:
        """Raises ParameterError for what doesn't go with an argument of the call's own."""
        RULES.check_beside(exclusion, self.given)

    @property
    def constraint(self) -> tuple[str, str | tuple[str, ...]] | None:
        """Name and value of the form that the text is held to, if any."""
        return next(((n, getattr(self, n)) for n in CONSTRAINTS if self.is_on(n)), None)

    @property
    def active_warpers(self) -> tuple[str, ...]:
        """The warpers that apply, in order; none unless it samples. Mirostat isn't among them.

        top_k's default holds unless mirostat is on, or sampler_order has no top_k: neither asks
        for it.
        """
        if not self.do_sample:
            return ()
        on = {name for name in WARPERS if self.is_on(name)}
        if self.is_on("dynatemp_range"):
            on.add("temperature")
        if self.top_k is None and not self.mirostat_mode:
            on.add("top_k")
        return tuple(name for name in self.sampler_order or WARPERS if name in on)

    @property
    def num_drawn(self) -> int:
        """How many sequences are written of each prompt, given or not."""
        return self.best_of or self.num_return_sequences

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The end tokens, none, one or several."""
        return as_tuple(self.eos_token_id)

    @property
    def forced_eos_token_ids(self) -> tuple[int, ...]:
        """The tokens one of which is forced at the end, if any."""
        return as_tuple(self.forced_eos_token_id)

    @property
    def prefill(self) -> tuple[int, ...]:
        """The tokens that the text begins with already, if any."""
        return as_tuple(self.prefill_ids)

    @property
    def forced_phrases(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """For each of force_words_ids, the phrases of which one must come."""
        return self.force_words_ids or ()  # type: ignore[return-value]

    @property
    def dry_breakers(self) -> tuple[str | int, ...]:
        """The texts or tokens that break DRY's sequences: those given, or DRY's own four texts."""
        given = self.dry_sequence_breakers
        return DEFAULT_DRY_SEQUENCE_BREAKERS if given is None else tuple(given)  # type: ignore[arg-type]

    def for_prompt(self, prompt_length: int) -> GenerationParams:
        """The same parameters for a prompt of that many tokens: lengths count new tokens alone.

        Raises ParameterError where the prompt leaves a parameter impossible or without effect.
        """
        if self.forced_bos_token_id is not None and prompt_length != 1:
            raise ParameterError(
                Given("forced_bos_token_id", self.forced_bos_token_id),
                f" has no effect on a prompt of {prompt_length} tokens: expected a prompt of the "
                "start token alone; put the token at the prompt's end instead",
            )
        if self.max_length is None and self.min_length is None:
            return self
        return replace(
            self,
            max_new_tokens=self._max_new_tokens(prompt_length),
            min_new_tokens=self._min_new_tokens(prompt_length),
            max_length=None,
            min_length=None,
        )

    def check_vocabulary(self, size: int) -> None:
        """Raises ParameterError where a parameter names a token beyond a vocabulary of `size`.

        eos_token_id is exempt: many a fine-tune keeps GPT-2's 50256 in its configuration beside a
        smaller vocabulary.
        """
        for name, ids in self.named_tokens():
            for token in ids:
                if token >= size:
                    raise ParameterError(
                        Given(name),
                        f" holds token {token}: expected ids from 0 to {size - 1}, the model's "
                        "vocabulary",
                    )

    @property
    def largest_token(self) -> int:
        """The largest token id that `check_vocabulary` looks at, -1 where there is none."""
        return max((token for _, ids in self.named_tokens() for token in ids), default=-1)

    def named_tokens(self) -> Iterator[tuple[str, Sequence[int]]]:
        """The parameters that name tokens of the vocabulary, with their ids."""
        yield "logit_bias", tuple(self.logit_bias or ())
        yield "bad_words_ids", tuple(token for word in self.bad_words_ids or () for token in word)
        ids = [each for each in self.dry_breakers if isinstance(each, int)]
        yield "dry_sequence_breakers", ids
        phrases = [phrase for phrases in self.forced_phrases for phrase in phrases]
        yield "force_words_ids", tuple(token for phrase in phrases for token in phrase)
        yield "suppress_tokens", self.suppress_tokens or ()
        yield "begin_suppress_tokens", self.begin_suppress_tokens or ()
        yield "forced_bos_token_id", as_tuple(self.forced_bos_token_id)
        yield "forced_eos_token_id", self.forced_eos_token_ids
        yield "prefill_ids", self.prefill

    def _max_new_tokens(self, prompt_length: int) -> int:
        if self.max_length is None:
            return self.max_new_tokens
        if self.max_length <= prompt_length:
            raise ParameterError(
                Given("max_length", self.max_length),
                f" leaves nothing to generate after a prompt of {prompt_length} tokens, which it "
                f"counts: expected at least {prompt_length + 1}, or ",
                *(Given("max_new_tokens"), " in its place"),
            )
        return self.max_length - prompt_length

    def _min_new_tokens(self, prompt_length: int) -> int | None:
        if self.min_length is None:
            return self.min_new_tokens
        at_least, at_most = self.min_length - prompt_length, self._max_new_tokens(prompt_length)
        if at_least > at_most:
            raise ParameterError(
                Given("min_length", self.min_length),
                f" asks for {at_least} tokens after a prompt of {prompt_length}: expected at most "
                f"the {at_most} that ",
                *(Given("max_new_tokens"), " allows; lower one or raise the other"),
            )
        return max(at_least, 0)


def _naming_origin(error: ParameterError, defaults: Set[str]) -> ParameterError:
    """The same error, saying which of the parameters that it names are `defaults`."""
    named = [Given(name) for name in sorted(defaults & error.parameters.keys())]
    if not named:
        return error
    listed = [part for name in named for part in (", ", name)][1:]
    origin = " came from the model's generation_config.json or config.json)"
    return ParameterError(*error.parts, " (", *listed, origin)
