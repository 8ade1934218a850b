"""The keywords of `generate` and `stream`, for editors and type checkers.

Each is a field of GenerationParams with its type, or None, which takes the model's own default
away. What each means and may be stands in `table`, of which `scripts/keywords.py` writes this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from gpt2onnx.samplers.penalties import AllowedTokens
from gpt2onnx.samplers.stopping import StopFn


class GenerationKeywords(TypedDict, total=False):
    """All of them, in the order of `gpt2onnx generate --help`."""

    max_new_tokens: int | None
    max_length: int | None
    min_new_tokens: int | None
    min_length: int | None
    max_time: float | None
    eos_token_id: int | Sequence[int] | None
    stop_strings: str | Sequence[str] | None
    stop_fn: StopFn | None
    overflow: Literal["error", "truncate", "slide"] | None
    do_sample: bool | None
    num_return_sequences: int | None
    best_of: int | None
    return_alternatives: bool | None
    seed: int | None
    top_n_sigma: float | None
    temperature: float | None
    dynatemp_range: float | None
    dynatemp_exponent: float | None
    smoothing_factor: float | None
    smoothing_curve: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    tfs_z: float | None
    top_a: float | None
    xtc_probability: float | None
    xtc_threshold: float | None
    mirostat_mode: int | None
    mirostat_tau: float | None
    mirostat_eta: float | None
    sampler_order: Sequence[str] | None
    num_beams: int | None
    length_penalty: float | None
    early_stopping: bool | Literal["never"] | None
    num_beam_groups: int | None
    diversity_penalty: float | None
    force_words_ids: Sequence[Sequence[int] | Sequence[Sequence[int]]] | None
    penalty_alpha: float | None
    num_assistant_tokens: int | None
    assistant_confidence_threshold: float | None
    prompt_lookup_num_tokens: int | None
    max_matching_ngram_size: int | None
    lookahead_window_size: int | None
    lookahead_ngram_size: int | None
    lookahead_guess_set_size: int | None
    guidance_scale: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    no_repeat_ngram_size: int | None
    dry_multiplier: float | None
    dry_base: float | None
    dry_allowed_length: int | None
    dry_penalty_last_n: int | None
    dry_sequence_breakers: str | int | Sequence[str | int] | None
    logit_bias: Mapping[int, float] | None
    bad_words_ids: Sequence[Sequence[int]] | None
    suppress_tokens: Sequence[int] | None
    begin_suppress_tokens: Sequence[int] | None
    forced_bos_token_id: int | None
    forced_eos_token_id: int | Sequence[int] | None
    prefill_ids: Sequence[int] | None
    prefix_allowed_tokens_fn: AllowedTokens | None
    regex: str | None
    json_schema: str | Mapping[str, Any] | None
    json_layout: Literal["spaced", "compact", "free"] | None
    grammar: str | None
    choices: Sequence[str] | None
