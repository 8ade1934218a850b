"""Classifier-free guidance: what a prompt makes more probable, made more probable still.

Sanchez et al., 2306.17806, as transformers' UnbatchedClassifierFreeGuidanceLogitsProcessor has it.
Knows logits; knows nothing of where those without the prompt come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers.candidates import FloatArray
from gpt2onnx.samplers.logprobs import log_softmax

if TYPE_CHECKING:
    from gpt2onnx.samplers.params import GenerationParams


def guide(conditional: FloatArray, unconditional: FloatArray, scale: float) -> FloatArray:
    """Logits with the prompt, moved `scale` times as far from those without: [..., vocab] all.

    0 gives the log-probabilities without the prompt, 1 those with it.
    """
    without = log_softmax(unconditional)
    guided: FloatArray = scale * (log_softmax(conditional) - without) + without
    return guided


def is_guided(params: GenerationParams) -> bool:
    """Whether guidance_scale is on."""
    return params.guidance_scale not in (None, 1.0)


def check_guidance(params: GenerationParams) -> None:
    """Raises ParameterError for what can't go with guidance."""
    if not is_guided(params):
        return
    others = {
        "num_beams": (params.num_beams > 1, "beams are searched by the model's own scores"),
        "overflow": (params.overflow == "slide", "both contexts end with the model's positions"),
    }
    for name, (given, why) in others.items():
        if given:
            raise ParameterError(
                f"guidance_scale={params.guidance_scale} with {name}={getattr(params, name)}: "
                f"{why}; leave one of them out"
            )


def check_negative_prompt(params: GenerationParams) -> None:
    """Raises ParameterError where a negative prompt has no effect."""
    if not is_guided(params):
        raise ParameterError(
            "negative_prompt has no effect without guidance_scale other than 1: set that, or leave "
            "negative_prompt out"
        )
