"""Logits of one sequence in, one token out. numpy alone.

`Sampler` is the whole chain; `penalties`, `warpers` and `draw` are the pieces that other strategies
stand on. Each name is loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt2onnx.samplers.beam.hypotheses import Finished, Hypothesis
    from gpt2onnx.samplers.beam.search import BeamSearch, Branch
    from gpt2onnx.samplers.candidates import Candidates
    from gpt2onnx.samplers.chain.draws import Choice, Draw, draw_alike
    from gpt2onnx.samplers.chain.sampler import Sampler
    from gpt2onnx.samplers.chain.steps import (
        compose_penalties,
        compose_warpers,
        penalty_steps,
        warper_steps,
    )
    from gpt2onnx.samplers.draw import categorical, generator, greedy
    from gpt2onnx.samplers.logprobs import entropy, log_softmax, token_logprobs, top_logprobs
    from gpt2onnx.samplers.params import GenerationParams, defaults_from_generation_config
    from gpt2onnx.samplers.penalties import Penalty
    from gpt2onnx.samplers.stopping import StopFn, is_stopped
    from gpt2onnx.samplers.top_logits import TopLogits
    from gpt2onnx.samplers.warpers import Warper

__all__ = [
    "BeamSearch",
    "Branch",
    "Candidates",
    "Choice",
    "Draw",
    "Finished",
    "GenerationParams",
    "Hypothesis",
    "Penalty",
    "Sampler",
    "StopFn",
    "TopLogits",
    "Warper",
    "categorical",
    "compose_penalties",
    "compose_warpers",
    "defaults_from_generation_config",
    "draw_alike",
    "entropy",
    "generator",
    "greedy",
    "is_stopped",
    "log_softmax",
    "penalty_steps",
    "token_logprobs",
    "top_logprobs",
    "warper_steps",
]

_HOMES = {
    "BeamSearch": "gpt2onnx.samplers.beam.search",
    "Branch": "gpt2onnx.samplers.beam.search",
    "Candidates": "gpt2onnx.samplers.candidates",
    "Choice": "gpt2onnx.samplers.chain.draws",
    "Draw": "gpt2onnx.samplers.chain.draws",
    "Finished": "gpt2onnx.samplers.beam.hypotheses",
    "GenerationParams": "gpt2onnx.samplers.params",
    "Hypothesis": "gpt2onnx.samplers.beam.hypotheses",
    "Penalty": "gpt2onnx.samplers.penalties",
    "Sampler": "gpt2onnx.samplers.chain.sampler",
    "StopFn": "gpt2onnx.samplers.stopping",
    "TopLogits": "gpt2onnx.samplers.top_logits",
    "Warper": "gpt2onnx.samplers.warpers",
    "categorical": "gpt2onnx.samplers.draw",
    "compose_penalties": "gpt2onnx.samplers.chain.steps",
    "compose_warpers": "gpt2onnx.samplers.chain.steps",
    "defaults_from_generation_config": "gpt2onnx.samplers.params",
    "draw_alike": "gpt2onnx.samplers.chain.draws",
    "entropy": "gpt2onnx.samplers.logprobs",
    "generator": "gpt2onnx.samplers.draw",
    "greedy": "gpt2onnx.samplers.draw",
    "is_stopped": "gpt2onnx.samplers.stopping",
    "log_softmax": "gpt2onnx.samplers.logprobs",
    "penalty_steps": "gpt2onnx.samplers.chain.steps",
    "token_logprobs": "gpt2onnx.samplers.logprobs",
    "top_logprobs": "gpt2onnx.samplers.logprobs",
    "warper_steps": "gpt2onnx.samplers.chain.steps",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gpt2onnx.samplers' has no attribute {name!r}")
