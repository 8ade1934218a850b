"""What speculation's parameters mean together, and beside the others.

Knows names and values; knows no drafter. That a draft model is there, its caller says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gpt2onnx.errors import ParameterError, shown
from gpt2onnx.samplers.guidance import is_guided

if TYPE_CHECKING:
    from gpt2onnx.samplers.params import GenerationParams

LOOKAHEAD: Final = (
    "lookahead_window_size",
    "lookahead_ngram_size",
    "lookahead_guess_set_size",
)


def unused_by_speculation(merged: Mapping[str, Any], given: Mapping[str, Any]) -> set[str]:
    """Of a call's parameters, those that the others that it gives leave without effect."""
    lookup = {"prompt_lookup_num_tokens", "max_matching_ngram_size"}
    replaced = any(given.get(name) for name in LOOKAHEAD)
    if replaced or is_judged_otherwise(merged):
        return lookup
    return set() if merged.get("prompt_lookup_num_tokens") else lookup


def is_judged_otherwise(merged: Mapping[str, Any]) -> bool:
    """Whether a call's parameters ask for what leaves drafts no place."""
    guided = merged.get("guidance_scale") not in (None, 1)
    beams = (merged.get("num_beams") or 1) != 1
    contrasts = bool(merged.get("penalty_alpha"))
    return guided or contrasts or beams or merged.get("overflow") == "slide"


def check_lookup(params: GenerationParams) -> None:
    """Raises ParameterError for what has no effect, and for what can't go with a prompt lookup."""
    if params.prompt_lookup_num_tokens:
        check_alone(params, f"prompt_lookup_num_tokens={params.prompt_lookup_num_tokens}")
    elif params.max_matching_ngram_size:
        raise ParameterError(
            f"max_matching_ngram_size={params.max_matching_ngram_size} has no effect without "
            "prompt_lookup_num_tokens: set that, or leave max_matching_ngram_size out"
        )


def check_draft(params: GenerationParams) -> None:
    """Raises ParameterError for what can't go with a draft model."""
    check_alone(params, "draft")
    if params.prompt_lookup_num_tokens:
        raise ParameterError(
            f"draft and prompt_lookup_num_tokens={params.prompt_lookup_num_tokens} both say where "
            "drafts come from: expected one of them"
        )


def check_no_draft(given: Mapping[str, Any]) -> None:
    """Raises ParameterError for what a call gives that has no effect without a draft model."""
    for name in ("num_assistant_tokens", "assistant_confidence_threshold"):
        if given.get(name) is not None:
            raise ParameterError(
                f"{name}={shown(given[name])} has no effect without draft: give a draft model, or "
                f"leave {name} out"
            )


def check_alone(params: GenerationParams, name: str) -> None:
    """Raises ParameterError for what can't go with drafts, which `name` asks for."""
    if params.num_beams > 1:
        raise ParameterError(
            f"{name} with num_beams={params.num_beams}: a draft foresees one sequence, and beams "
            "go several ways; leave one of them out"
        )
    if params.overflow == "slide":
        raise ParameterError(
            f"{name} with overflow='slide': drafts end with the model's positions; leave one of "
            "them out"
        )
    if params.penalty_alpha:
        raise ParameterError(
            f"{name} with penalty_alpha={params.penalty_alpha}: contrastive search reads several "
            "candidates for each token, not a draft; leave one of them out"
        )
    if is_guided(params):
        raise ParameterError(
            f"{name} with guidance_scale={params.guidance_scale}: drafts are judged without "
            "guidance; leave one of them out"
        )
