"""GenerationParams: what a call asks of decoding, validated before anything runs.

Names, meanings and ranges are those of transformers' GenerationConfig; frequency_penalty,
presence_penalty, logit_bias, seed and best_of are OpenAI's; the names of dynatemp, top_n_sigma,
tfs_z, xtc and dry are llama.cpp's, those of top_a and mirostat text-generation-webui's, that of
return_alternatives CTranslate2's; sampler_order, overflow and stop_fn are this package's. Knows
nothing of models: what depends on a vocabulary or a prompt is checked by `check_vocabulary` and
`for_prompt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal

from gpt2onnx.errors import ParameterError, shown
from gpt2onnx.samplers.beam_params import check_beams
from gpt2onnx.samplers.constraint_params import check_constraint
from gpt2onnx.samplers.contrastive import check_contrastive
from gpt2onnx.samplers.defaults import merge, naming_origin
from gpt2onnx.samplers.guidance import check_guidance
from gpt2onnx.samplers.lookahead_params import check_lookahead
from gpt2onnx.samplers.order import check_warpers
from gpt2onnx.samplers.penalties import AllowedTokens
from gpt2onnx.samplers.ranking_params import check_alternatives, check_best_of
from gpt2onnx.samplers.rules import CHECKS, LENGTH_PAIRS, SAMPLING_ONLY
from gpt2onnx.samplers.speculation_params import check_lookup
from gpt2onnx.samplers.stopping import StopFn

DEFAULT_MAX_NEW_TOKENS: Final = 128
DEFAULT_TOP_K: Final = 50
DEFAULT_DRY_SEQUENCE_BREAKERS: Final = ("\n", ":", '"', "*")


@dataclass(frozen=True, kw_only=True)
class GenerationParams:
    """Parameters of one generation. None means not given.

    Lists may be given as anything that holds their members; they are kept as tuples, and a lone
    token id or string of a parameter that takes several as a tuple of one. Raises ParameterError
    for a value out of range, and for one that would have no effect beside the others.
    """

    # How long
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    max_length: int | None = None  # tokens of prompt and text together, in place of max_new_tokens
    min_new_tokens: int | None = None
    min_length: int | None = None  # tokens of prompt and text together, in place of min_new_tokens
    max_time: float | None = None  # seconds
    eos_token_id: int | Sequence[int] | None = None
    stop_strings: str | Sequence[str] | None = None
    stop_fn: StopFn | None = None  # (sequence_index, history [n]) after each token: end here?
    # where the model's positions end
    overflow: Literal["error", "truncate", "slide"] = "error"

    # How to draw
    do_sample: bool = False
    num_return_sequences: int = 1
    best_of: int | None = None  # draw this many, and give the num_return_sequences best
    # begin each of num_return_sequences with another token, the most probable ones in order
    return_alternatives: bool = False
    seed: int | None = None
    temperature: float | None = None
    dynatemp_range: float | None = None  # how far temperature goes down and up with the entropy
    dynatemp_exponent: float | None = None  # 1
    # with do_sample or penalty_alpha, None is transformers' 50, unless mirostat or a sampler_order
    # without top_k is given, and 0 is off
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    top_n_sigma: float | None = None
    tfs_z: float | None = None
    top_a: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None  # 0.1
    mirostat_mode: int | None = None  # the paper's algorithm 1 or 2, in place of other truncation
    mirostat_tau: float | None = None  # 5 bits a token
    mirostat_eta: float | None = None  # 0.1
    sampler_order: Sequence[str] | None = None  # the parameters that turn warpers on, in order

    # How to search
    num_beams: int = 1
    length_penalty: float | None = None  # 1; scores are divided by length ** length_penalty
    early_stopping: bool | Literal["never"] | None = None  # False
    num_beam_groups: int = 1
    diversity_penalty: float | None = None
    # phrases that must come, as token ids; of several in a list of their own, one
    force_words_ids: Sequence[Sequence[int] | Sequence[Sequence[int]]] | None = None
    penalty_alpha: float | None = None  # contrastive search's, among the top_k best tokens

    # How to speculate
    num_assistant_tokens: int | None = None  # 5; a draft model's first draft
    # 0.1; a draft ends before a token to which the draft model gives less
    assistant_confidence_threshold: float | None = None
    prompt_lookup_num_tokens: int | None = None  # turns the lookup on; its first draft
    max_matching_ngram_size: int | None = None  # 2
    # lookahead decoding's: any of them turns it on
    lookahead_window_size: int | None = None  # 1; W in the paper
    lookahead_ngram_size: int | None = None  # 4; N
    lookahead_guess_set_size: int | None = None  # 1; G

    # What the prompt says
    guidance_scale: float | None = None  # 1 is off; above, the text keeps closer to its prompt

    # What the history says
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None  # 1.75
    dry_allowed_length: int | None = None  # 2
    dry_penalty_last_n: int | None = None  # -1, all tokens
    # texts, or the ids of tokens; by default a line break, a colon, a quotation mark, an asterisk
    dry_sequence_breakers: str | int | Sequence[str | int] | None = None

    # What may follow
    logit_bias: Mapping[int, float] | None = field(default=None, hash=False)
    bad_words_ids: Sequence[Sequence[int]] | None = None
    suppress_tokens: Sequence[int] | None = None
    begin_suppress_tokens: Sequence[int] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | Sequence[int] | None = None
    prefix_allowed_tokens_fn: AllowedTokens | None = None
    # what the whole text must be, and then ends: at most one of these
    regex: str | None = None  # Rust's syntax: Python's without look-around and backreferences
    json_schema: str | Mapping[str, Any] | None = None  # kept as JSON text
    grammar: str | None = None  # Lark's, as llguidance takes it
    choices: Sequence[str] | None = None  # one of these texts

    @classmethod
    def create(cls, given: Mapping[str, Any], defaults: Mapping[str, Any] = {}) -> GenerationParams:
        """The parameters of a call: its own keywords over the model's defaults.

        What is given as None takes the model's default away. Defaults that matter to sampling alone
        are left out of a call that doesn't sample; given ones are an error then. A given length
        replaces the default of either kind.
        """
        merged = merge(_each_checked(given), defaults)
        try:
            for new, total in LENGTH_PAIRS:
                if new in merged and total in merged:
                    raise _both_given(new, merged[new], total, merged[total])
            return cls(**merged)
        except ParameterError as error:
            raise naming_origin(error, merged.keys() - given.keys()) from None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None or each.default is not None:
                object.__setattr__(self, each.name, CHECKS[each.name](each.name, value))
        self._check_sampling()
        check_warpers(self)
        check_beams(self)
        check_constraint(self)
        check_lookup(self)
        check_lookahead(self)
        check_best_of(self)
        check_alternatives(self)
        check_guidance(self)
        check_contrastive(self)
        self._check_lengths()
        self._check_tokens()

    @property
    def num_drawn(self) -> int:
        """How many sequences are written of each prompt, given or not."""
        return self.best_of or self.num_return_sequences

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The end tokens, none, one or several."""
        return _as_tuple(self.eos_token_id)

    @property
    def forced_eos_token_ids(self) -> tuple[int, ...]:
        """The tokens one of which is forced at the end, if any."""
        return _as_tuple(self.forced_eos_token_id)

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
                f"forced_bos_token_id={self.forced_bos_token_id} has no effect on a prompt of "
                f"{prompt_length} tokens: expected a prompt of the start token alone; put the "
                "token at the prompt's end instead"
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
        for name, ids in self._named_tokens():
            for token in ids:
                if token >= size:
                    raise ParameterError(
                        f"{name} holds token {token}: expected ids from 0 to {size - 1}, the "
                        "model's vocabulary"
                    )

    @property
    def largest_token(self) -> int:
        """The largest token id that `check_vocabulary` looks at, -1 where there is none."""
        return max((token for _, ids in self._named_tokens() for token in ids), default=-1)

    def _named_tokens(self) -> Iterator[tuple[str, Sequence[int]]]:
        yield "logit_bias", tuple(self.logit_bias or ())
        yield "bad_words_ids", tuple(token for word in self.bad_words_ids or () for token in word)
        ids = [each for each in self.dry_breakers if isinstance(each, int)]
        yield "dry_sequence_breakers", ids
        phrases = [phrase for phrases in self.forced_phrases for phrase in phrases]
        yield "force_words_ids", tuple(token for phrase in phrases for token in phrase)
        yield "suppress_tokens", self.suppress_tokens or ()
        yield "begin_suppress_tokens", self.begin_suppress_tokens or ()
        yield "forced_bos_token_id", _as_tuple(self.forced_bos_token_id)
        yield "forced_eos_token_id", self.forced_eos_token_ids

    def _max_new_tokens(self, prompt_length: int) -> int:
        if self.max_length is None:
            return self.max_new_tokens
        if self.max_length <= prompt_length:
            raise ParameterError(
                f"max_length={self.max_length} leaves nothing to generate after a prompt of "
                f"{prompt_length} tokens, which it counts: expected at least {prompt_length + 1}, "
                "or max_new_tokens in its place"
            )
        return self.max_length - prompt_length

    def _min_new_tokens(self, prompt_length: int) -> int | None:
        if self.min_length is None:
            return self.min_new_tokens
        at_least, at_most = self.min_length - prompt_length, self._max_new_tokens(prompt_length)
        if at_least > at_most:
            raise ParameterError(
                f"min_length={self.min_length} asks for {at_least} tokens after a prompt of "
                f"{prompt_length}: expected at most the {at_most} that max_new_tokens allows; "
                "lower it or raise max_new_tokens"
            )
        return max(at_least, 0)

    def _check_sampling(self) -> None:
        if self.do_sample:
            return
        for name in SAMPLING_ONLY:
            value = getattr(self, name)
            several = self.num_beams > 1 or self.return_alternatives
            if name == "num_return_sequences" and (value == 1 or several):
                continue
            if name == "top_k" and self.penalty_alpha:
                continue
            if value is not None and self.penalty_alpha:
                raise ParameterError(
                    f"{name}={value} with penalty_alpha={self.penalty_alpha}: contrastive search "
                    "draws nothing; leave one of them out"
                )
            if value is not None:
                others = {
                    "num_return_sequences": "num_beams above 1, or return_alternatives=True",
                    "top_k": "penalty_alpha",
                }
                other = f" or {others[name]}" if name in others else ""
                raise ParameterError(
                    f"{name}={value} has no effect without do_sample=True{other}: set that, "
                    f"or leave {name} out"
                )

    def _check_lengths(self) -> None:
        if self.max_new_tokens != DEFAULT_MAX_NEW_TOKENS and self.max_length is not None:
            raise _both_given("max_new_tokens", self.max_new_tokens, "max_length", self.max_length)
        if self.min_new_tokens is not None and self.min_length is not None:
            raise _both_given("min_new_tokens", self.min_new_tokens, "min_length", self.min_length)
        if self.max_length is None:
            self._require_order("min_new_tokens", "max_new_tokens")
        else:
            self._require_order("min_length", "max_length")
        for name in ("min_new_tokens", "min_length"):
            if getattr(self, name) and not self.eos_token_ids:
                raise ParameterError(
                    f"{name}={getattr(self, name)} has no effect without eos_token_id: give the "
                    f"end token, or leave {name} out"
                )

    def _check_tokens(self) -> None:
        for eos in self.eos_token_ids:
            if (eos,) in (self.bad_words_ids or ()):
                raise ParameterError(
                    f"bad_words_ids holds [{eos}], the end token, which transformers passes over: "
                    "expected other words; to forbid the end token, put it in suppress_tokens"
                )
        suppressed = set(self.suppress_tokens or ())
        for name in ("forced_bos_token_id", "forced_eos_token_id"):
            forced = _as_tuple(getattr(self, name))
            if forced and suppressed.issuperset(forced):
                raise ParameterError(
                    f"{name}={getattr(self, name)} is forbidden by suppress_tokens: take it out of "
                    "one of the two"
                )

    def _require_order(self, low: str, high: str) -> None:
        at_least, at_most = getattr(self, low), getattr(self, high)
        if at_least is not None and at_least > at_most:
            raise ParameterError(
                f"{low}={at_least} is above {high}={at_most}: lower one or raise the other"
            )


def _each_checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same, each value in the form that it is kept in; None and unknown names as they are."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ParameterError(f"parameters={shown(given)}: expected values by their names")
    checks = {name: CHECKS[name] for name in given if name in CHECKS and given[name] is not None}
    return {**given, **{name: check(name, given[name]) for name, check in checks.items()}}


def _both_given(new: str, new_value: object, total: str, total_value: object) -> ParameterError:
    return ParameterError(
        f"{new}={shown(new_value)} and {total}={shown(total_value)} are both given: expected one "
        f"of them; {total} counts the prompt too"
    )


def _as_tuple(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)
