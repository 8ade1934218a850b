"""Contrastive search: of the most probable tokens, one that isn't like what stands there already.

Su et al., 2202.06417. Knows probabilities and hidden states; knows nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers.candidates import FloatArray

if TYPE_CHECKING:
    from gpt2onnx.samplers.params import GenerationParams


def contrast(
    probabilities: FloatArray, candidates: FloatArray, context: FloatArray, alpha: float
) -> int:
    """Which of k candidates comes next: the first of those with the highest score.

    (1 - alpha) * probability - alpha * max cosine similarity to a token of the context. The
    probabilities are [k], the hidden states [k, d] and [n, d], of length 1 each (`unit`).
    """
    similarity = (candidates @ context.T).max(axis=1)
    return int(np.argmax((1 - alpha) * probabilities - alpha * similarity))


def unit(vectors: FloatArray) -> FloatArray:
    """The same directions at length 1: [n, d] -> [n, d]. A vector of zeros stays what it is."""
    lengths: FloatArray = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    lengths[lengths == 0] = 1
    return vectors / lengths


def unused_contrast(merged: Mapping[str, Any]) -> set[str]:
    """Of a call's parameters, those of contrastive search where it samples or searches beams."""
    otherwise = merged.get("do_sample") or (merged.get("num_beams") or 1) != 1
    return {"penalty_alpha"} if otherwise else set()


def check_contrastive(params: GenerationParams) -> None:
    """Raises ParameterError for what can't go with contrastive search, or is missing."""
    if not params.penalty_alpha:
        return
    others = {
        "do_sample": (params.do_sample, "contrastive search draws nothing"),
        "num_beams": (params.num_beams > 1, "contrastive search follows one text"),
        "return_alternatives": (params.return_alternatives, "contrastive search follows one text"),
        "overflow": (params.overflow == "slide", "contrastive search ends with the positions"),
        "guidance_scale": (params.guidance_scale not in (None, 1), "each chooses in its own way"),
    }
    for name, (given, why) in others.items():
        if given:
            raise ParameterError(
                f"penalty_alpha={params.penalty_alpha} with {name}={getattr(params, name)}: {why}; "
                "leave one of them out"
            )
    if params.top_k in (0, 1):
        raise ParameterError(
            f"penalty_alpha={params.penalty_alpha} with top_k={params.top_k}: expected the number "
            "of candidates, at least 2; set top_k=4 for instance"
        )
