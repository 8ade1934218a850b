"""Which check each parameter takes, and which parameters sampling alone heeds.

A table over `checks`; what parameters mean together, the files named after them know.
"""

from __future__ import annotations

from typing import Final

from gpt2onnx.samplers.checks import (
    Check,
    biases,
    choice,
    early_stopping,
    flag,
    function,
    integer,
    integer_where,
    json_object,
    number,
    order,
    phrases,
    seed,
    strings,
    text,
    texts,
    texts_or_tokens,
    token,
    token_sequences,
    tokens,
)
from gpt2onnx.samplers.order import WARPERS

_GREEDY_ADVICE = "for greedy decoding set do_sample=False instead"
_MASS = number(lambda v: 0 <= v <= 1, "a number from 0 to 1")
_CUTOFF = number(lambda v: 0 <= v < 1, "a probability from 0 (off) to below 1")
_OFF_AT_0 = "a number of at least 0, which turns it off"
_OPENAI_PENALTY = number(lambda v: -2 <= v <= 2, "a number from -2 to 2")

# One for each field of GenerationParams, in its order.
CHECKS: Final[dict[str, Check]] = {
    "max_new_tokens": integer(1, "an integer of at least 1"),
    "max_length": integer(1, "an integer of at least 1"),
    "min_new_tokens": integer(0, "an integer of at least 0"),
    "min_length": integer(0, "an integer of at least 0"),
    "max_time": number(lambda v: v > 0, "a number of seconds above 0"),
    "eos_token_id": tokens,
    "stop_strings": strings,
    "stop_fn": function("whether to end"),
    "overflow": choice("error", "truncate", "slide"),
    "do_sample": flag,
    "num_return_sequences": integer(1, "an integer of at least 1"),
    "best_of": integer(1, "an integer of at least 1"),
    "return_alternatives": flag,
    "seed": seed,
    # Logits divided by less would overflow float32.
    "temperature": number(lambda v: v >= 1e-30, f"a number above 0; {_GREEDY_ADVICE}"),
    "dynatemp_range": number(lambda v: v >= 0, _OFF_AT_0),
    "dynatemp_exponent": number(lambda v: v > 0, "a number above 0"),
    "top_k": integer(0, "an integer of at least 0, which turns it off"),
    "top_p": _MASS,
    "min_p": _MASS,
    "typical_p": number(lambda v: 0 < v <= 1, "a number above 0, up to 1, which turns it off"),
    "epsilon_cutoff": _CUTOFF,
    "eta_cutoff": _CUTOFF,
    "top_n_sigma": number(lambda v: v >= 0, _OFF_AT_0),
    "tfs_z": _MASS,
    "top_a": _MASS,
    "xtc_probability": _MASS,
    "xtc_threshold": number(
        lambda v: 0 < v <= 0.5, "a probability above 0, up to 0.5, above which no two tokens can be"
    ),
    "mirostat_mode": integer_where(lambda v: 0 <= v <= 2, "0 (off), 1 or 2"),
    "mirostat_tau": number(lambda v: v > 0, "a number of bits a token above 0"),
    "mirostat_eta": number(lambda v: v > 0, "a number above 0"),
    "sampler_order": order(*WARPERS),
    "num_beams": integer(1, "an integer of at least 1"),
    # Scores divided by a length's power beyond these would leave float32.
    "length_penalty": number(lambda v: -10 <= v <= 10, "a number from -10 to 10"),
    "early_stopping": early_stopping,
    "num_beam_groups": integer(1, "an integer of at least 1"),
    "diversity_penalty": number(lambda v: 0 <= v < 1e30, _OFF_AT_0),
    "force_words_ids": phrases,
    "penalty_alpha": number(lambda v: 0 <= v <= 1, "a number from 0 (off) to 1"),
    "num_assistant_tokens": integer(1, "an integer of at least 1"),
    "assistant_confidence_threshold": _MASS,
    "prompt_lookup_num_tokens": integer(1, "an integer of at least 1"),
    "max_matching_ngram_size": integer(1, "an integer of at least 1"),
    "lookahead_window_size": integer(1, "an integer of at least 1"),
    "lookahead_ngram_size": integer(2, "an integer of at least 2"),
    "lookahead_guess_set_size": integer(1, "an integer of at least 1"),
    # Differences of log-probabilities times more would leave float32.
    "guidance_scale": number(lambda v: abs(v) < 1e30, "a number within 1e30 of 0; 1 is off"),
    # Beyond these float32 knows no logit to multiply by them.
    "repetition_penalty": number(
        lambda v: 1e-30 <= v <= 1e30, "a number above 0, from 1e-30 to 1e30; 1 is off"
    ),
    "frequency_penalty": _OPENAI_PENALTY,
    "presence_penalty": _OPENAI_PENALTY,
    "no_repeat_ngram_size": integer(0, "an integer of at least 0, which turns it off"),
    # Penalties are kept below 1e30, which float32 can hold.
    "dry_multiplier": number(lambda v: 0 <= v < 1e30, _OFF_AT_0),
    "dry_base": number(lambda v: 1 <= v < 1e30, "a number of at least 1"),
    "dry_allowed_length": integer(1, "an integer of at least 1"),
    "dry_penalty_last_n": integer_where(
        lambda v: v == -1 or v > 0, "an integer of at least 1, or -1 for all tokens"
    ),
    "dry_sequence_breakers": texts_or_tokens,
    "logit_bias": biases,
    "bad_words_ids": token_sequences,
    "suppress_tokens": tokens,
    "begin_suppress_tokens": tokens,
    "forced_bos_token_id": token,
    "forced_eos_token_id": tokens,
    "prefix_allowed_tokens_fn": function("allowed token ids"),
    "regex": text,
    "json_schema": json_object,
    "json_layout": choice("spaced", "compact", "free"),
    "grammar": text,
    "choices": texts,
}
PARAMETERS: Final = tuple(CHECKS)

# Without effect unless do_sample is true.
SAMPLING_ONLY: Final = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "top_n_sigma",
    "tfs_z",
    "top_a",
    "dynatemp_range",
    "dynatemp_exponent",
    "xtc_probability",
    "xtc_threshold",
    "mirostat_mode",
    "mirostat_tau",
    "mirostat_eta",
    "sampler_order",
    "seed",
    "num_return_sequences",
    "best_of",
)

# Two names for one limit; the total length counts the prompt.
LENGTH_PAIRS: Final = (("max_new_tokens", "max_length"), ("min_new_tokens", "min_length"))
