"""What a checkpoint's generation_config.json contributes to a call.

A key of the file becomes a default, or is dropped because it can't change which tokens come out, or
is refused by name. Knows nothing of files, nor of what a parameter may be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any, Final

from gpt2onnx.errors import ParameterError, shown
from gpt2onnx.samplers.beam_params import unused_by_beams
from gpt2onnx.samplers.contrastive import unused_contrast
from gpt2onnx.samplers.lookahead_params import unused_by_lookahead
from gpt2onnx.samplers.order import REPLACED_BY_MIROSTAT
from gpt2onnx.samplers.rules import LENGTH_PAIRS, PARAMETERS, SAMPLING_ONLY
from gpt2onnx.samplers.speculation_params import unused_by_speculation

# Keys that never change the tokens of greedy decoding or sampling.
_WITHOUT_EFFECT: Final = frozenset(
    {
        # where the file comes from
        "transformers_version",
        "_from_model_config",
        "_commit_hash",
        # tokens that the caller's prompt and batching deal with
        "pad_token_id",
        "bos_token_id",
        "decoder_start_token_id",
        # how transformers computes and what it returns
        "use_cache",
        "cache_implementation",
        "cache_config",
        "return_legacy_cache",
        "prefill_chunk_size",
        "compile_config",
        "disable_compile",
        "low_memory",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "output_logits",
        "return_dict_in_generate",
        "renormalize_logits",
        # details of strategies that other keys, refused below, or arguments turn on
        "is_assistant",
        "num_assistant_tokens_schedule",
        "assistant_lookbehind",
        "target_lookbehind",
    }
)

# Keys that would change the tokens, with the values at which they don't; null never does.
_NEUTRAL: Final[dict[str, tuple[object, ...]]] = {
    "dola_layers": (),
    "constraints": (),
    "encoder_repetition_penalty": (1,),
    "encoder_no_repeat_ngram_size": (0,),
    "exponential_decay_length_penalty": (),
    "sequence_bias": (),
    "token_healing": (False,),
    "watermarking_config": (),
    "remove_invalid_values": (False,),
    "assistant_early_exit": (),
}

# Parameters that a file can't hold.
_NOT_IN_A_FILE: Final = frozenset({"prefix_allowed_tokens_fn", "stop_fn"})

# transformers' own default, which it takes as "no length was asked for".
_TRANSFORMERS_MAX_LENGTH: Final = 20


def defaults_from_generation_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that generation_config.json sets, for `GenerationParams.create`.

    Of two lengths the one in new tokens holds, as in transformers. Raises ParameterError for a key
    that asks for a strategy that isn't supported, and for an unknown one: neither is passed over in
    silence.
    """
    defaults = {}
    for key, value in config.items():
        if key in PARAMETERS and key not in _NOT_IN_A_FILE:
            defaults[key] = value
        elif key not in _WITHOUT_EFFECT:
            _require_neutral(key, value)
    if defaults.get("max_length") == _TRANSFORMERS_MAX_LENGTH:
        del defaults["max_length"]
    for new, total in LENGTH_PAIRS:
        if defaults.get(new) is not None:
            defaults.pop(total, None)
    return {key: value for key, value in defaults.items() if value is not None}


def _require_neutral(key: str, value: object) -> None:
    if key not in _NEUTRAL:
        raise ParameterError(
            f"generation_config.json has the unknown key {shown(key)}: expected parameters of "
            "GenerationParams; remove it"
        )
    if value is not None and value not in _NEUTRAL[key]:
        raise ParameterError(
            f"generation_config.json has {key}={shown(value)}, which isn't supported: expected "
            f"{_NEUTRAL[key][0] if _NEUTRAL[key] else 'null'}; remove it from "
            "generation_config.json to decode without it"
        )


def merge(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A call's keywords over the model's defaults; what is None is left out.

    Defaults that matter to sampling alone are left out of a call that doesn't sample, those that
    mirostat replaces out of a call that asks for it, those that matter to beams alone out of a call
    without, and a default length where the call gives one of either kind. Raises ParameterError for
    an unknown name.
    """
    for name in (*given, *defaults):
        _require_known(name)
    merged = {**_without_replaced_lengths(defaults, given), **given}
    unused: set[str] = set()
    if not merged.get("do_sample"):
        unused.update(SAMPLING_ONLY)
    unused |= (without_effect := unused_contrast(merged))
    if merged.get("penalty_alpha") and not without_effect:
        unused.discard("top_k")
    if given.get("mirostat_mode"):
        unused.update(REPLACED_BY_MIROSTAT)
    if (merged.get("num_beams") or 1) != 1 or merged.get("return_alternatives"):
        unused.discard("num_return_sequences")
    unused |= unused_by_beams(merged) | unused_by_speculation(merged, given)
    unused |= unused_by_lookahead(merged, given)
    return {
        name: value
        for name, value in merged.items()
        if value is not None and (name in given or name not in unused)
    }


def naming_origin(error: ParameterError, defaults: Set[str]) -> ParameterError:
    """The same error, saying which of the parameters that it names are `defaults`."""
    named = sorted(name for name in defaults if re.search(rf"\b{name}=", str(error)))
    if not named:
        return error
    return ParameterError(
        f"{error} ({', '.join(named)} came from the model's generation_config.json)"
    )


def _without_replaced_lengths(
    defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    twins = {a: b for pair in LENGTH_PAIRS for a, b in (pair, pair[::-1])}
    return {k: v for k, v in defaults.items() if given.get(twins.get(k, k)) is None}


def _require_known(name: str) -> None:
    if name in PARAMETERS:
        return
    if name in _WITHOUT_EFFECT:
        raise ParameterError(f"transformers' {name} has no effect here: leave it out")
    if name in _NEUTRAL:
        raise ParameterError(f"transformers' {name} isn't supported: leave it out")
    import difflib  # takes longer to import than most of this package

    closest = difflib.get_close_matches(name, PARAMETERS, n=1)
    advice = f"did you mean {closest[0]}" if closest else f"expected one of {', '.join(PARAMETERS)}"
    raise ParameterError(f"unknown parameter {shown(name)}: {advice}")
