"""What speculation's parameters mean together, and beside the others.

Knows names and values; knows no drafter. That a draft model is there, its caller says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers.guidance import is_guided

if TYPE_CHECKING:
    from gpt2onnx.samplers.params import GenerationParams


def unused_by_speculation(merged: Mapping[str, Any], given: Mapping[str, Any]) -> set[str]:
    """Of a call's parameters, those that the others that it gives leave without effect."""
    lookup = {"prompt_lookup_num_tokens", "max_matching_ngram_size"}
    judged_otherwise = merged.get("guidance_scale") not in (None, 1) or merged.get("penalty_alpha")
    if judged_otherwise or (merged.get("num_beams") or 1) > 1 or merged.get("overflow") == "slide":
        return lookup
    return set() if merged.get("prompt_lookup_num_tokens") else lookup


def check_lookup(params: GenerationParams) -> None:
    """Raises ParameterError for what has no effect, and for what can't go with a prompt lookup."""
    if params.prompt_lookup_num_tokens:
        _check_alone(params, f"prompt_lookup_num_tokens={params.prompt_lookup_num_tokens}")
    elif params.max_matching_ngram_size:
        raise ParameterError(
            f"max_matching_ngram_size={params.max_matching_ngram_size} has no effect without "
            "prompt_lookup_num_tokens: set that, or leave max_matching_ngram_size out"
        )


def check_draft(params: GenerationParams) -> None:
    """Raises ParameterError for what can't go with a draft model."""
    _check_alone(params, "draft")
    if params.prompt_lookup_num_tokens:
        raise ParameterError(
            f"draft and prompt_lookup_num_tokens={params.prompt_lookup_num_tokens} both say where "
            "drafts come from: expected one of them"
        )


def _check_alone(params: GenerationParams, name: str) -> None:
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
