"""Every parameter of a generation: its type, default and range, its help, what it needs.

This is the one place of a parameter: the checks, the command line, its documentation and what a
generation_config.json may hold are read from here.

Names, meanings and ranges are those of transformers' GenerationConfig; frequency_penalty,
presence_penalty, logit_bias, seed and best_of are OpenAI's; the names of dynatemp, top_n_sigma,
tfs_z, xtc and dry are llama.cpp's, those of top_a, smoothing and mirostat text-generation-webui's,
that of return_alternatives CTranslate2's; prefill_ids, sampler_order, overflow and stop_fn are this
package's. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from gpt2onnx.errors import Advised
from gpt2onnx.samplers import warpers
from gpt2onnx.samplers.params import values
from gpt2onnx.samplers.params.parameter import (
    flag,
    integer,
    number,
    parameter,
    parameters,
    tokens,
    warps,
)
from gpt2onnx.samplers.penalties import AllowedTokens
from gpt2onnx.samplers.stopping import StopFn
from gpt2onnx.samplers.xtc import xtc

DEFAULT_MAX_NEW_TOKENS: Final = 128
# Differences of log-probabilities times more, and penalties of more, would leave float32.
_LARGEST = 1e30
_OFF_AT_0 = "a number of at least 0, which turns it off"


def _mass(help: str, **more: Any) -> Any:
    return number(lambda v: 0 <= v <= 1, "a number from 0 to 1", help, **more)


def _cutoff(help: str, **more: Any) -> Any:
    expected = "a probability from 0 (off) to below 1"
    return number(lambda v: 0 <= v < 1, expected, help, off=0, **more)


def _from_0(help: str, **more: Any) -> Any:
    return number(lambda v: v >= 0, _OFF_AT_0, help, off=0, **more)


def _above_0(of_what: str, help: str, **more: Any) -> Any:
    return number(lambda v: v > 0, f"a number{of_what} above 0", help, **more)


def _openai_penalty(help: str) -> Any:
    return number(lambda v: -2 <= v <= 2, "a number from -2 to 2", help, off=0)


# Fields alone: what GenerationParams makes of them for itself would be made here for nobody.
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class ParameterTable:
    """The fields of GenerationParams, in the order of the help. None means not given.

    A field's text is its help; warpers apply in the order of their fields, unless sampler_order
    says another one. The middle of that order is transformers'. top_n_sigma measures the whole
    vocabulary, so it comes first; xtc takes away what the others found best, so it comes last;
    both as in text-generation-webui, where smoothing follows the temperature.
    """

    max_new_tokens: int = integer(
        1,
        "write at most this many tokens (default: 128)",
        default=DEFAULT_MAX_NEW_TOKENS,
        group="length",
    )
    max_length: int | None = integer(1, "the same, counting the prompt's tokens")
    min_new_tokens: int | None = integer(0, "no end token before this many new tokens", off=0)
    min_length: int | None = integer(0, "the same, counting the prompt's tokens", off=0)
    max_time: float | None = _above_0(" of seconds", "stop after this many seconds")
    eos_token_id: int | Sequence[int] | None = tokens(
        "end tokens (default: the model's; '' for none)"
    )
    stop_strings: str | Sequence[str] | None = parameter(
        values.strings, "end before this text; repeatable", "texts"
    )
    stop_fn: StopFn | None = parameter(
        values.function("whether to end"),
        "(sequence_index, history [n]) after each token: whether to end there",
        "",
    )
    overflow: Literal["error", "truncate", "slide"] = parameter(
        values.choice("error", "truncate", "slide"),
        "if the prompt or text is longer than the model's context: error (default) refuses it, "
        "truncate keeps the prompt's end, slide goes on and forgets the older half",
        "choice",
        default="error",
        off=("error", "truncate"),
    )

    do_sample: bool = flag(
        "sample tokens by their probabilities (default: take the most probable one)",
        group="sampling",
    )
    num_return_sequences: int = integer(
        1,
        "give this many texts for each prompt",
        default=1,
        off=1,
        needs=("do_sample", "num_beams", "return_alternatives"),
    )
    best_of: int | None = integer(
        1, "sample this many texts, and give the most probable ones, best first", needs="do_sample"
    )
    return_alternatives: bool = flag(
        "begin each text with another token, the most probable ones in order"
    )
    seed: int | None = parameter(
        values.seed, "random seed: the same seed gives the same text", "integer", needs="do_sample"
    )
    top_n_sigma: float | None = _from_0(
        "keep tokens with logits at most X standard deviations below the largest",
        needs="do_sample",
        warping=warps(warpers.top_n_sigma, n="top_n_sigma"),
    )
    # Logits divided by less would overflow float32.
    temperature: float | None = number(
        lambda v: v >= warpers.LOWEST_TEMPERATURE,
        ("a number above 0; for greedy decoding set ", Advised("do_sample", False), " instead"),
        "divide the logits by this; below 1 is more predictable",
        off=1,
        needs="do_sample",
        warping=warps(
            warpers.temperature,
            t="temperature",
            spread="dynatemp_range",
            exponent="dynatemp_exponent",
        ),
    )
    dynatemp_range: float | None = _from_0(
        "vary the temperature by up to X with the entropy", needs="do_sample"
    )
    dynatemp_exponent: float | None = _above_0(
        "",
        "above 1 the temperature rises late, below 1 early (default: 1)",
        needs="dynatemp_range",
    )
    smoothing_factor: float | None = number(
        lambda v: 0 <= v < _LARGEST,
        _OFF_AT_0,
        "quadratic sampling: bend the logits by a parabola of this curvature",
        off=0,
        needs="do_sample",
        warping=warps(warpers.quadratic, factor="smoothing_factor", curve="smoothing_curve"),
    )
    smoothing_curve: float | None = number(
        lambda v: 1 <= v < _LARGEST,
        "a number of at least 1",
        "above 1 unlikely tokens lose more (default: 1)",
        needs="smoothing_factor",
    )
    # None is transformers' 50, unless mirostat or a sampler_order without top_k is given.
    top_k: int | None = integer(
        0,
        "keep the N most probable tokens; 0 keeps all (default: 50)",
        allowed="an integer of at least 0, which turns it off",
        off=0,
        needs=("do_sample", "penalty_alpha"),
        warping=warps(warpers.top_k, k="top_k"),
    )
    top_p: float | None = _mass(
        "keep the fewest tokens whose probabilities reach this sum",
        off=1,
        needs="do_sample",
        warping=warps(warpers.top_p, p="top_p"),
    )
    min_p: float | None = _mass(
        "keep tokens at least X times as probable as the best one",
        off=0,
        needs="do_sample",
        warping=warps(warpers.min_p, p="min_p"),
    )
    typical_p: float | None = number(
        lambda v: 0 < v <= 1,
        "a number above 0, up to 1, which turns it off",
        "keep the most typical tokens that reach this sum",
        off=1,
        needs="do_sample",
        warping=warps(warpers.typical_p, p="typical_p"),
    )
    epsilon_cutoff: float | None = _cutoff(
        "keep tokens of at least this probability",
        needs="do_sample",
        warping=warps(warpers.epsilon_cutoff, epsilon="epsilon_cutoff"),
    )
    eta_cutoff: float | None = _cutoff(
        "the same, lower where the model is unsure",
        needs="do_sample",
        warping=warps(warpers.eta_cutoff, epsilon="eta_cutoff"),
    )
    tfs_z: float | None = _mass(
        "tail-free sampling: cut the tail where the sorted probabilities stop bending",
        off=1,
        needs="do_sample",
        warping=warps(warpers.tail_free, z="tfs_z"),
    )
    top_a: float | None = _mass(
        "keep tokens of at least X times the best one's probability squared",
        off=0,
        needs="do_sample",
        warping=warps(warpers.top_a, a="top_a"),
    )
    xtc_probability: float | None = _mass(
        "how often to drop all probable tokens but the least probable of them (XTC)",
        off=0,
        needs="do_sample",
        warping=warps(xtc, draws=True, probability="xtc_probability", threshold="xtc_threshold"),
    )
    xtc_threshold: float | None = number(
        lambda v: 0 < v <= 0.5,
        "a probability above 0, up to 0.5, above which no two tokens can be",
        "what counts as probable there (default: 0.1)",
        needs="xtc_probability",
    )
    mirostat_mode: int | None = parameter(
        values.integer_where(lambda v: 0 <= v <= 2, "0 (off), 1 or 2"),
        "mirostat, version 1 or 2: keep the surprise near a target, in place of other cuts",
        "integer",
        off=0,
        needs="do_sample",
    )
    mirostat_tau: float | None = _above_0(
        " of bits a token",
        "mirostat's target, in bits per token (default: 5)",
        needs="mirostat_mode",
    )
    mirostat_eta: float | None = _above_0(
        "", "mirostat's learning rate (default: 0.1)", needs="mirostat_mode"
    )
    sampler_order: Sequence[str] | None = parameter(
        values.order(lambda: WARPERS),
        "the order in which to apply them, such as top_k,temperature",
        "names",
        needs="do_sample",
    )

    num_beams: int = integer(
        1,
        "number of beams; the best text is given (default: 1)",
        default=1,
        off=1,
        group="beam search",
    )
    # Scores divided by a length's power beyond these would leave float32.
    length_penalty: float | None = number(
        lambda v: -10 <= v <= 10,
        "a number from -10 to 10",
        "divide scores by length to the power of X; above 0 favours long texts (default: 1)",
        needs="num_beams",
    )
    early_stopping: bool | Literal["never"] | None = parameter(
        values.early_stopping,
        "when to stop: true, when as many texts as beams have ended; false (default), when a "
        "better text is unlikely; never, when there can't be one",
        "early_stopping",
        needs="num_beams",
    )
    num_beam_groups: int = integer(
        1,
        "diverse beam search: groups of beams that avoid each other's tokens",
        default=1,
        off=1,
        needs="num_beams",
    )
    diversity_penalty: float | None = number(
        lambda v: 0 <= v < _LARGEST,
        _OFF_AT_0,
        "subtract this for each earlier group that chose the same token",
        off=0,
        needs="num_beam_groups",
    )
    force_words_ids: Sequence[Sequence[int] | Sequence[Sequence[int]]] | None = parameter(
        values.phrases,
        "the text must contain these phrases, such as 5;7,9, or one of several, 5|7,9",
        "phrases",
        needs="num_beams",
    )

    penalty_alpha: float | None = number(
        lambda v: 0 <= v <= 1,
        "a number from 0 (off) to 1",
        "of the --top-k best tokens, take one that is probable and unlike the text so far; 0 "
        "weighs only probability, 1 only unlikeness; for models exported with "
        "--with-hidden-states",
        off=0,
        group="contrastive search",
    )

    num_assistant_tokens: int | None = integer(
        1, "how many tokens --draft guesses at first (default: 5)", group="speculation"
    )
    assistant_confidence_threshold: float | None = _mass(
        "end --draft's guess before a token that it finds less probable (default: 0.4)"
    )
    prompt_lookup_num_tokens: int | None = integer(
        1, "guess this many tokens, at first, from where the last words occurred before"
    )
    max_matching_ngram_size: int | None = integer(
        1,
        "match this many last tokens, then fewer (default: 2)",
        needs="prompt_lookup_num_tokens",
    )
    lookahead_window_size: int | None = integer(
        1,
        "lookahead decoding: guess at this many positions in parallel (default: 1 if one of the "
        "next two is given); for models exported with --with-attention-bias",
    )
    lookahead_ngram_size: int | None = integer(
        2, "tokens in each n-gram of lookahead decoding (default: 4)"
    )
    lookahead_guess_set_size: int | None = integer(
        1, "n-grams that lookahead decoding verifies at once, at most (default: 1)"
    )

    guidance_scale: float | None = number(
        lambda v: abs(v) < _LARGEST,
        "a number within 1e30 of 0; 1 is off",
        "above 1, stay closer to the prompt and away from --negative-prompt; 1 is off",
        off=1,
        group="guidance",
    )

    # Beyond these float32 knows no logit to multiply by them.
    repetition_penalty: float | None = number(
        lambda v: 1 / _LARGEST <= v <= _LARGEST,
        "a number from 1e-30 to 1e30; 1 is off",
        "above 1, make tokens of prompt and text less likely; 1 is off",
        off=1,
        group="penalties",
    )
    frequency_penalty: float | None = _openai_penalty(
        "lower a token's logit by this for each time it was written"
    )
    presence_penalty: float | None = _openai_penalty(
        "lower a token's logit by this if it was written at all"
    )
    no_repeat_ngram_size: int | None = integer(
        0,
        "never repeat a sequence of N tokens",
        allowed="an integer of at least 0, which turns it off",
        off=0,
    )
    dry_multiplier: float | None = number(
        lambda v: 0 <= v < _LARGEST,
        _OFF_AT_0,
        "DRY: penalize continuing a repetition, more and more",
        off=0,
    )
    dry_base: float | None = number(
        lambda v: 1 <= v < _LARGEST,
        "a number of at least 1",
        "factor of the penalty for each further token (default: 1.75)",
        needs="dry_multiplier",
    )
    dry_allowed_length: int | None = integer(
        1, "penalize from this many repeated tokens on (default: 2)", needs="dry_multiplier"
    )
    dry_penalty_last_n: int | None = parameter(
        values.integer_where(
            lambda v: v == -1 or v > 0, "an integer of at least 1, or -1 for all tokens"
        ),
        "look at the last N tokens only (default: -1, all)",
        "integer",
        needs="dry_multiplier",
    )
    dry_sequence_breakers: str | int | Sequence[str | int] | None = parameter(
        values.texts_or_tokens,
        "a repetition ends at this text; repeatable (default: line break, colon, quotation "
        "mark, asterisk)",
        "texts",
        needs="dry_multiplier",
    )

    logit_bias: Mapping[int, float] | None = parameter(
        values.biases,
        "add X to a token's logit; repeatable",
        "biases",
        group="constraints",
        hash=False,
    )
    bad_words_ids: Sequence[Sequence[int]] | None = parameter(
        values.token_sequences, "never write these words, such as 5;7,9", "words"
    )
    suppress_tokens: Sequence[int] | None = tokens("never write these tokens")
    begin_suppress_tokens: Sequence[int] | None = tokens("don't begin with these tokens")
    forced_bos_token_id: int | None = parameter(
        values.token, "begin with this token, if the prompt is only the start token", "token"
    )
    forced_eos_token_id: int | Sequence[int] | None = tokens(
        "end with one of these tokens at the length limit"
    )
    prefill_ids: Sequence[int] | None = tokens(
        "the text begins with these tokens, as if they had been written; what follows them is given"
    )
    prefix_allowed_tokens_fn: AllowedTokens | None = parameter(
        values.function("allowed token ids"),
        "(sequence_index, history [n]) before each token: the ids that may follow",
        "",
    )
    # What the whole text must be, and then ends: at most one of these.
    regex: str | None = parameter(
        values.text,
        "constrain the text to this regular expression, in Rust's syntax; the text ends when it "
        "is complete, and a length limit cuts it short; at most one of regex, json-schema, "
        "grammar and choices",
        "regex",
    )
    json_schema: str | Mapping[str, Any] | None = parameter(  # kept as JSON text
        values.json_object,
        "constrain the text to JSON of this schema: a file, or the schema itself if it begins "
        "with a brace",
        "schema",
    )
    json_layout: Literal["spaced", "compact", "free"] | None = parameter(
        values.choice("spaced", "compact", "free"),
        "the layout of that JSON: spaced (default), as Python writes it; compact, without white "
        "space; free, with white space wherever JSON allows it",
        "choice",
        needs="json_schema",
    )
    grammar: str | None = parameter(
        values.text,
        "constrain the text to this Lark grammar: a file, or the grammar itself if it has a colon",
        "grammar",
    )
    choices: Sequence[str] | None = parameter(
        values.texts, "constrain the text to one of these; repeatable", "texts"
    )


PARAMETERS: Final = parameters(ParameterTable)
# What turns each warper on, in their default order.
WARPERS: Final[tuple[str, ...]] = tuple(name for name, each in PARAMETERS.items() if each.warping)
