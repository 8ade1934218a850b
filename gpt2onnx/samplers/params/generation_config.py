"""Generation defaults from a checkpoint's generation_config.json or config.json.

A key becomes a default, or is dropped because it can't change which tokens come out, or is refused
by name. Knows transformers' names, of versions 4.45 to 5.24; nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gpt2onnx.errors import Given, ParameterError, shown
from gpt2onnx.flags import nearest
from gpt2onnx.samplers.params.table import PARAMETERS

FILE: Final = "generation_config.json"
CONFIG_FILE: Final = "config.json"

# Keys that never change the tokens of greedy decoding or sampling.
WITHOUT_EFFECT: Final = frozenset(
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
        "max_cache_len",
        "return_legacy_cache",
        "prefill_chunk_size",
        "compile_config",
        "disable_compile",
        "continuous_batching_config",
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
        "speculation_type",
        # drafts of heads that a GPT-2 doesn't have; they never change what comes
        "use_mtp",
    }
)

# Keys that would change the tokens, with the values at which they don't; null never does.
NEUTRAL: Final[dict[str, tuple[object, ...]]] = {
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
    "assistant_ensemble_weight": (),
    "top_h": (),
    "forced_decoder_ids": (),
    "generation_kwargs": ({},),
}

# Parameters that transformers' GenerationConfig has: of a config.json, whose other keys are the
# model's, these alone are heeded.
_OF_TRANSFORMERS: Final = frozenset(
    {
        *("max_new_tokens", "max_length", "min_new_tokens", "min_length", "max_time"),
        *("eos_token_id", "stop_strings", "do_sample", "num_return_sequences", "temperature"),
        *("top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "num_beams"),
        *("length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty"),
        *("force_words_ids", "penalty_alpha", "num_assistant_tokens", "guidance_scale"),
        *("assistant_confidence_threshold", "prompt_lookup_num_tokens", "repetition_penalty"),
        *("max_matching_ngram_size", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens"),
        *("begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id"),
    }
)

# What a config.json holds where nobody set it: PretrainedConfig's own generation parameters.
_UNSET_IN_CONFIG: Final[dict[str, object]] = {
    "max_length": 20,
    "min_length": 0,
    "do_sample": False,
    "early_stopping": False,
    "num_beams": 1,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "num_return_sequences": 1,
    "output_scores": False,
    "return_dict_in_generate": False,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "remove_invalid_values": False,
    "exponential_decay_length_penalty": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
}

# Of two limits of one length the one in new tokens holds, as in transformers.
_TOTALS: Final = {"max_new_tokens": "max_length", "min_new_tokens": "min_length"}

# transformers' own default, which it takes as "no length was asked for".
_TRANSFORMERS_MAX_LENGTH: Final = 20


def settings_in_force(
    config: Mapping[str, Any], generation_config: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], str]:
    """The settings that transformers goes by, and the name of the file that has them.

    They are generation_config.json's. Of a checkpoint without one they are config.json's, and so
    they are where that file was made of config.json, which has said something else since.
    task_specific_params are for pipelines alone.
    """
    made_of_config = generation_config is None or (
        generation_config.get("_from_model_config") is True
        and any(config.get(k) not in (None, unset) for k, unset in _UNSET_IN_CONFIG.items())
    )
    if generation_config is not None and not made_of_config:
        return generation_config, FILE
    known = _OF_TRANSFORMERS | WITHOUT_EFFECT | NEUTRAL.keys()
    heeded = {key: value for key, value in config.items() if key in known and value is not None}
    return heeded, CONFIG_FILE


def defaults_from_generation_config(config: Mapping[str, Any], file: str = FILE) -> dict[str, Any]:
    """The parameters that generation_config.json sets, for `GenerationParams.create`.

    Of two lengths the one in new tokens holds, as in transformers. Raises ParameterError for a key
    that asks for a strategy that isn't supported, and for an unknown one: neither is passed over in
    silence. `file` names the file in messages.
    """
    for key, value in config.items():
        if wrong := _unsupported(key, value):
            said = f"{file} has {wrong}; remove it from {file} to decode without it"
            raise ParameterError(said, path=file, name=key)
    defaults = {key: value for key, value in config.items() if _is_parameter(key)}
    if defaults.get("max_length") == _TRANSFORMERS_MAX_LENGTH:
        del defaults["max_length"]
    for new, total in _TOTALS.items():
        if defaults.get(new) is not None:
            defaults.pop(total, None)
    return {key: value for key, value in defaults.items() if value is not None}


def require_known(name: str) -> None:
    """Raises ParameterError for a name that is no parameter, with the nearest one that is."""
    if name in PARAMETERS:
        return
    if name in WITHOUT_EFFECT:
        raise ParameterError("transformers' ", Given(name), " has no effect here: leave it out")
    if name in NEUTRAL:
        raise ParameterError("transformers' ", Given(name), " isn't supported: leave it out")
    unknown = f"unknown parameter {shown(name)}: {nearest(name, PARAMETERS)}"
    raise ParameterError(unknown, name=name)


def problem(key: str, value: object) -> str:
    """What is wrong with a key of generation_config.json and its value; empty where nothing is."""
    if wrong := _unsupported(key, value):
        return wrong
    try:
        if value is not None and _is_parameter(key):
            PARAMETERS[key].check(key, value)
    except ParameterError as error:
        return str(error)
    return ""


def _is_parameter(key: str) -> bool:
    return key in PARAMETERS and bool(PARAMETERS[key].kind)  # no file holds a function


def _unsupported(key: str, value: object) -> str:
    """Why a key can't be heeded, whatever a parameter may be; null asks for nothing."""
    if value is None or _is_parameter(key) or key in WITHOUT_EFFECT:
        return ""
    if key not in NEUTRAL:
        return f"the unknown key {key!r:.100}: expected parameters of GenerationParams"
    if value in NEUTRAL[key]:
        return ""
    expected = NEUTRAL[key][0] if NEUTRAL[key] else "null"
    return f"{key}={value!r:.100}, which isn't supported: expected {expected}"
