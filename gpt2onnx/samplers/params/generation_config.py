"""What a checkpoint's generation_config.json contributes to a call.

A key of the file becomes a default, or is dropped because it can't change which tokens come out, or
is refused by name. Knows nothing of files, nor of what a parameter may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers.params.table import PARAMETERS

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

# Of two limits of one length the one in new tokens holds, as in transformers.
_TOTALS: Final = {"max_new_tokens": "max_length", "min_new_tokens": "min_length"}

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
        if key in PARAMETERS and PARAMETERS[key].kind:  # no file holds a function
            defaults[key] = value
        elif key not in _WITHOUT_EFFECT:
            _require_neutral(key, value)
    if defaults.get("max_length") == _TRANSFORMERS_MAX_LENGTH:
        del defaults["max_length"]
    for new, total in _TOTALS.items():
        if defaults.get(new) is not None:
            defaults.pop(total, None)
    return {key: value for key, value in defaults.items() if value is not None}


def _require_neutral(key: str, value: object) -> None:
    if key not in _NEUTRAL:
        raise ParameterError(
            f"generation_config.json has the unknown key {key!r}: expected parameters of "
            "GenerationParams; remove it"
        )
    if value is not None and value not in _NEUTRAL[key]:
        raise ParameterError(
            f"generation_config.json has {key}={value!r}, which isn't supported: expected "
            f"{_NEUTRAL[key][0] if _NEUTRAL[key] else 'null'}; remove it from "
            "generation_config.json to decode without it"
        )


def require_known(name: str) -> None:
    """Raises ParameterError for a name that is no parameter, with the nearest one that is."""
    if name in PARAMETERS:
        return
    if name in _WITHOUT_EFFECT:
        raise ParameterError(f"transformers' {name} has no effect here: leave it out")
    if name in _NEUTRAL:
        raise ParameterError(f"transformers' {name} isn't supported: leave it out")
    import difflib  # takes longer to import than most of this package

    closest = difflib.get_close_matches(name, PARAMETERS, n=1)
    advice = f"did you mean {closest[0]}" if closest else f"expected one of {', '.join(PARAMETERS)}"
    raise ParameterError(f"unknown parameter {name!r}: {advice}")
