"""Classifier-free guidance: strengthens what the prompt makes more probable.

Sanchez et al., 2306.17806, as transformers' UnbatchedClassifierFreeGuidanceLogitsProcessor has it.
Knows logits; knows nothing of where those without the prompt come from.
"""

from __future__ import annotations

from gpt2onnx.samplers.candidates import FloatArray
from gpt2onnx.samplers.logprobs import log_softmax


def guide(conditional: FloatArray, unconditional: FloatArray, scale: float) -> FloatArray:
    """Logits with the prompt, moved `scale` times as far from those without: [..., vocab] all.

    0 gives the log-probabilities without the prompt, 1 those with it.
    """
    without = log_softmax(unconditional)
    guided: FloatArray = scale * (log_softmax(conditional) - without) + without
    return guided
