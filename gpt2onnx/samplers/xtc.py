"""XTC, exclude top choices: the one warper that draws random numbers.

p-e-w's (text-generation-webui, pull request 6335; llama.cpp's and koboldcpp's sampler of that
name). Knows nothing of the draw that follows.
"""

from __future__ import annotations

import numpy as np

from gpt2onnx.samplers.candidates import Candidates


def xtc(
    candidates: Candidates, *, probability: float, rng: np.random.Generator, threshold: float = 0.1
) -> Candidates:  # [n] -> [kept]
    """Where several tokens have `threshold` or more, drops all of them but the least probable.

    That happens with `probability`, at each step anew. All tokens are alike to it, line breaks and
    end tokens too, and all that equal the least probable stay. It takes exactly one number from
    `rng`, whatever comes of it, so that a sequence still depends on nothing but its seed.
    """
    if rng.random() >= probability:
        return candidates
    choices = candidates.logits[candidates.probabilities() >= threshold]
    if len(choices) < 2:
        return candidates
    return candidates.where(candidates.logits <= choices.min())
